"""`vramlint [PATHS]`: check files and folders."""

from __future__ import annotations

import os
import sys
from argparse import Namespace

from vramlint import __version__
from vramlint.cli.errors import CLEAN, FINDINGS
from vramlint.cli.output import write
from vramlint.cli.terminal import use_color
from vramlint.cli.work import check_paths
from vramlint.engine.selection import RuleSet
from vramlint.findings import Report, Severity
from vramlint.report import RuleInfo, View, render
from vramlint.report.summary import counts, summary, unresolved


def run(options: Namespace) -> int:
    """Check, print the findings to standard output and the summary to standard error."""
    outcome = check_paths(options, options.paths or ["."])
    report = outcome.report
    view = View(
        color=_colored(options),
        rules=_papers(outcome.rules) if options.format == "sarif" else (),
        version=__version__,
        root=os.getcwd(),
    )
    write(render(options.format, report, view), options.output_file)
    if not options.quiet:
        lines = [*outcome.notes, *unresolved(report), summary(report)]
        sys.stdout.flush()  # the summary stands below the findings even when both go to one pipe
        sys.stderr.write("".join(f"{line}\n" for line in lines))
    if options.exit_zero:
        return CLEAN
    strict = options.strict or outcome.strict
    return _exit_code(report, Severity(options.fail_on or outcome.fail_on), strict=strict)


def _papers(rules: RuleSet) -> tuple[RuleInfo, ...]:
    from vramlint.cli.papers import rule_info

    return tuple(map(rule_info, rules.rules))


def _colored(options: Namespace) -> bool:
    return use_color(str(options.color), None if options.output_file else sys.stdout, os.environ)


def _exit_code(report: Report, threshold: Severity, *, strict: bool) -> int:
    bad = any(finding.severity.rank >= threshold.rank for finding in report.findings)
    return FINDINGS if bad or (strict and counts(report)["unresolved"]) else CLEAN
