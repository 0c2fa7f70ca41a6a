"""`vramlint [PATHS]`: check files and folders."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from vramlint import __version__
from vramlint.cli.errors import CLEAN, FINDINGS
from vramlint.cli.modes import mode_of
from vramlint.cli.output import write
from vramlint.cli.terminal import use_color
from vramlint.cli.work import STDIN, Work
from vramlint.engine.selection import RuleSet
from vramlint.findings import Report, Severity
from vramlint.report import RuleInfo, View, render
from vramlint.report.style import Style
from vramlint.report.summary import counts, summary, unresolved

if TYPE_CHECKING:
    from vramlint.api.fixing import Fixed


def run(options: Namespace) -> int:
    """Check, print the findings to standard output and the summary to standard error.

    With fixes made in standard input the fixed text goes to standard output, and the findings go to standard error.
    """
    options.paths = options.paths or ["."]
    work = Work(options, options.paths)
    mode = mode_of(options, work.settings)
    fixed: Fixed | None = None
    lines: tuple[str, ...] = ()
    if mode.make:
        from vramlint.cli.fixing import make

        fixed, lines = make(work, options, mode, Style(_colored(options)))
    outcome = work.outcome(work.check({}) if fixed is None else fixed.report)
    report = outcome.report
    if options.write_baseline:
        from vramlint.cli.known import write_baseline

        sys.stderr.write(f"{write_baseline(options, work.settings, report)}\n")
        return CLEAN
    if not mode.only:
        view = View(
            color=_colored(options),
            rules=_papers(outcome.rules) if options.format == "sarif" else (),
            version=__version__,
            unsafe=mode.unsafe,
            root=os.getcwd(),
        )
        aside = mode.make and STDIN in options.paths
        write(render(options.format, report, view), options.output_file, sys.stderr if aside else sys.stdout)
        lines = (*outcome.notes, *unresolved(report), *lines, summary(report, unsafe=mode.unsafe))
    if not options.quiet:
        sys.stdout.flush()  # the summary stands below the findings even when both go to one pipe
        sys.stderr.write("".join(f"{line}\n" for line in lines))
    if options.exit_zero:
        return CLEAN
    if fixed is not None and fixed.changed and (mode.show or options.exit_non_zero_on_fix):
        return FINDINGS
    strict = options.strict or outcome.strict
    return CLEAN if mode.only else _exit_code(report, Severity(options.fail_on or outcome.fail_on), strict=strict)


def _papers(rules: RuleSet) -> tuple[RuleInfo, ...]:
    from vramlint.cli.papers import rule_info

    return tuple(map(rule_info, rules.rules))


def _colored(options: Namespace) -> bool:
    return use_color(str(options.color), None if options.output_file else sys.stdout, os.environ)


def _exit_code(report: Report, threshold: Severity, *, strict: bool) -> int:
    bad = any(finding.severity.rank >= threshold.rank for finding in report.findings)
    return FINDINGS if bad or (strict and counts(report)["unresolved"]) else CLEAN
