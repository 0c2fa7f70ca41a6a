"""`vramlint --fix` and `--diff`: fixes made in the files, or shown."""

from __future__ import annotations

import sys
from argparse import Namespace

from vramlint.api.fixing import Disk, Fixed, Made, fix
from vramlint.cli import disk
from vramlint.cli.modes import Mode
from vramlint.cli.work import STDIN, Work
from vramlint.cli.writing import write_all
from vramlint.discovery import decode
from vramlint.findings import Report
from vramlint.report import edits
from vramlint.report.style import Style
from vramlint.report.words import count, gib, printable
from vramlint.text import Document


def make(work: Work, options: Namespace, mode: Mode, style: Style) -> tuple[Fixed, tuple[str, ...]]:
    """Make the fixes, write or show them; what came of it, and lines about it for standard error.

    Raises:
        UsageError: a file can't be written; all are then as they were.
    """
    fixed = fix(work.check, Disk(work.load, disk.identity, work.form), unsafe=mode.unsafe)
    standard = options.stdin_filename or STDIN if STDIN in options.paths else None
    if mode.show:
        sys.stdout.write("".join(difference(path, data, work, style) for path, data in fixed.changed.items()))
    elif standard is not None:
        sys.stdout.flush()
        sys.stdout.buffer.write(fixed.changed.get(standard) or work.load(standard) or b"")
        sys.stdout.buffer.flush()
    else:
        write_all(fixed.changed)
    return fixed, _lines(fixed, mode)


def difference(path: str, data: bytes, work: Work, style: Style | None = None) -> str:
    """The unified diff from a file as it is to these bytes."""
    form = work.form(path)
    before, after = (decode(path, content, form) for content in (work.load(path) or b"", data))
    return edits.render(before, after, style) if isinstance(before, Document) and isinstance(after, Document) else ""


def _lines(fixed: Fixed, mode: Mode) -> tuple[str, ...]:
    """What was fixed, each change once; what could not be; and how much more there is."""
    told: dict[str, list[Made]] = {}
    for made in fixed.made:
        told.setdefault(f"{made.path}: {made.code} {made.name}: {made.description}", []).append(made)
    verb = "would fix" if mode.show else "fixed"
    lines = [f"{verb} {printable(text)}{_peaks(group)}" for text, group in told.items()]
    lines += [f"cannot fix {printable(item.place.path)}: {printable(item.message)}" for item in fixed.failed]
    if not fixed.settled:
        codes = ", ".join(sorted({made.code for made in fixed.made}))
        lines.append(f"fixes undo each other and did not come to an end ({codes}); this is a bug, please report it")
    if mode.only:
        lines.append(_sum(fixed, mode, verb))
    return tuple(lines)


def _peaks(group: list[Made]) -> str:
    peaks = [made.peaks for made in group if made.peaks]
    if not peaks:
        return ""
    before, after = max(peaks)
    return f" (from {gib(before)} to {gib(after)})"


def _sum(fixed: Fixed, mode: Mode, verb: str) -> str:
    """`would fix 2 findings in 1 file; 1 more with --unsafe-fixes`."""
    more = _more(fixed.report) if not mode.unsafe else 0
    ending = f"; {more} more with --unsafe-fixes" if more else ""
    if not fixed.changed:
        return f"nothing to fix{ending}"
    return f"{verb} {count(len(fixed.made), 'finding')} in {count(len(fixed.changed), 'file')}{ending}"


def _more(report: Report) -> int:
    return sum(finding.fixable(unsafe=True) and not finding.fixable() for finding in report.findings)
