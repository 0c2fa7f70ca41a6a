"""What a fix changes, as a unified diff; of a notebook cell by cell, as people see it."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import unified_diff

from vramlint.report.style import Style
from vramlint.report.words import printable
from vramlint.text import Document

_ROLES = {"+": "good", "-": "error", "@": "frame"}
_NO_END = "\\ No newline at end of file\n"


def render(before: Document, after: Document, style: Style | None = None) -> str:
    """The unified diff of one file, its name as it is; empty where nothing changes.

    Line ends are those of the file, so that `patch` takes what is written for a plain file.
    """
    style = style or Style()
    if not before.cells:
        return "".join(_diff(before.path, before.text, after.text, style))
    pieces: list[str] = []
    for number, (old, new) in enumerate(zip(_cells(before), _cells(after), strict=True)):
        pieces += _diff(f"{before.path}:cell {before.cells[number].number}", old, new, style)
    return "".join(pieces)


def _diff(name: str, before: str, after: str, style: Style) -> Iterator[str]:
    name = printable(name)
    for line in unified_diff(_lines(before), _lines(after), name, name):
        text = line.removesuffix("\n")
        if style.color:  # on a terminal, which must not be commanded
            role = "strong" if text.startswith(("---", "+++")) else _ROLES.get(text[:1], "")
            text = style(role, printable(text.removesuffix("\r")))
        yield f"{text}\n" if line.endswith("\n") else f"{text}\n{_NO_END}"


def _lines(text: str) -> list[str]:
    """Lines that end at LF alone."""
    lines = text.split("\n")
    return [*(f"{line}\n" for line in lines[:-1]), *lines[-1:]] if lines[-1] else [f"{line}\n" for line in lines[:-1]]


def _cells(document: Document) -> list[str]:
    """The text of each cell."""
    starts = [document.line_starts[cell.first_line - 1] for cell in document.cells]
    return [document.text[start:end] for start, end in zip(starts, [*starts[1:], len(document.text)], strict=True)]
