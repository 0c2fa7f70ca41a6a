"""The last line: what was looked at and what was found."""

from __future__ import annotations

from vramlint.findings import Report, Severity
from vramlint.report.words import count, levels, printable


def summary(report: Report, *, unsafe: bool = False) -> str:
    """`checked 1 job, 0 unresolved, 3 files skipped; found 1 error, 2 warnings; 1 fixable with --fix`."""
    states = counts(report)
    looked = f"checked {count(states['checked'], 'job')}, {states['unresolved']} unresolved"
    if states["skipped"]:
        looked += f", {count(states['skipped'], 'job')} without training"
    if report.files_skipped:
        looked += f", {count(report.files_skipped, 'file')} skipped"
    found = [
        count(amount, "note" if level is Severity.INFO else level.value)
        for level, amount in levels(report.findings).items()
        if amount
    ]
    ending = f"; {report.suppressed} suppressed" if report.suppressed else ""
    ending += f"; {report.known} in the baseline" if report.known else ""
    return f"{looked}; found {', '.join(found) or 'nothing'}{ending}{_fixable(report, unsafe=unsafe)}"


def _fixable(report: Report, *, unsafe: bool) -> str:
    now = sum(finding.fixable(unsafe=unsafe) for finding in report.findings)
    more = sum(finding.fixable(unsafe=True) for finding in report.findings) - now
    if now:
        return f"; {now} fixable with --fix" + (f", {more} more with --unsafe-fixes" if more else "")
    return f"; {more} fixable with --fix --unsafe-fixes" if more else ""


def counts(report: Report) -> dict[str, int]:
    """Number of jobs by status."""
    return {status: sum(job.status == status for job in report.jobs) for status in ("checked", "unresolved", "skipped")}


def unresolved(report: Report) -> list[str]:
    """A line for each job that could not be judged: nothing is green because it could not be read."""
    return [
        f"unresolved: {printable(job.name)}: {printable(job.reason or 'no figure could be worked out')}"
        for job in report.jobs
        if job.status == "unresolved"
    ]
