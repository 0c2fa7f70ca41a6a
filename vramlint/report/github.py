"""Annotations of GitHub Actions, each finding on a plain line too, because annotations are capped.

Form: docs.github.com, "Workflow commands for GitHub Actions"; the toolkit's `command.ts` for escaping.
"""

from __future__ import annotations

from vramlint.findings import Finding, Fix, Report
from vramlint.report import concise
from vramlint.report.spots import Documents, spot
from vramlint.report.style import Style
from vramlint.report.view import View
from vramlint.report.words import gib, levels, options, ordered, shown

_LEVELS = {"error": "error", "warning": "warning", "info": "notice"}
_SHOWN = 10
"""Annotations of one level that GitHub shows per step."""


def render(report: Report, view: View) -> str:
    """Workflow commands, then the concise lines."""
    findings = ordered(report.findings)
    lines = [_command(finding, report.documents, unsafe=view.unsafe) for finding in findings]
    lines += [concise.line(finding, report.documents, Style(), unsafe=view.unsafe) for finding in findings]
    lines += [
        f"GitHub shows {_SHOWN} {_LEVELS[level.value]} annotations per step; all {amount} are listed above"
        for level, amount in levels(report.findings).items()
        if amount > _SHOWN
    ]
    return "".join(f"{line}\n" for line in lines)


def _command(finding: Finding, documents: Documents, *, unsafe: bool) -> str:
    at = spot(finding.place, documents)
    span = at.span
    cell = "" if at.cell is None else f" (cell {at.cell}, line {span.line})"
    properties = {
        "title": f"{finding.code} {finding.name}{cell}",
        "file": at.path,
        "line": str(at.file_line),
        "endLine": str(at.file_end_line),
    }
    # GitHub takes columns for positions in one line only, and those of a cell are not the file's
    if span.line == span.end_line and at.cell is None:
        properties |= {"col": str(span.column), "endColumn": str(span.end_column)}
    written = ",".join(f"{name}={_property(text)}" for name, text in properties.items())
    plan = finding.fix.steps if isinstance(finding.fix, Fix) else ()
    steps = [f"{step.description} (saves {gib(step.saves)})" for step in plan]
    way = [f"fixable with {option}" for option in (options(finding, unsafe=unsafe),) if option]
    message = "\n".join([finding.message, *shown(finding.jobs), *finding.help, *steps, *way])
    return f"::{_LEVELS[finding.severity.value]} {written}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
