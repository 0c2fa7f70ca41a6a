"""One line per finding: `path:line:col: error VRAM101 [*] message`, in notebooks `path:cell 3:line:col: …`."""

from __future__ import annotations

from vramlint.findings import Finding, Report
from vramlint.report.spots import Documents, where
from vramlint.report.style import Style
from vramlint.report.view import View
from vramlint.report.words import mark, ordered, printable, shown


def render(report: Report, view: View) -> str:
    """All findings, ordered by place."""
    style = Style(view.color)
    return "".join(
        f"{line(finding, report.documents, style, unsafe=view.unsafe)}\n" for finding in ordered(report.findings)
    )


def line(finding: Finding, documents: Documents, style: Style, *, unsafe: bool = False) -> str:
    """One finding on one line, `[*]` in front of the message of one that can be fixed."""
    level = style(finding.severity.value, f"{finding.severity.value} {finding.code}")
    jobs = f" ({printable(', '.join(shown(finding.jobs)))})" if finding.jobs else ""
    return (
        f"{where(finding.place, documents)}: {level} {mark(finding, unsafe=unsafe)}{printable(finding.message)}{jobs}"
    )
