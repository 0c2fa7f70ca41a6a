"""Source lines with carets under the labelled places, as rustc draws them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from msgspec import Struct

from vramlint.findings import Finding, Label
from vramlint.report.spots import Documents, spot, where
from vramlint.report.style import Style
from vramlint.report.words import printable
from vramlint.text import Document

_TAB = 4
_LONGEST = 140
"""A line wider than this is cut around its labels: minified JSON is one line."""
_BEFORE = 50
"""Code points kept before the first label of a cut line."""


class _Mark(Struct, frozen=True):
    start: int
    end: int
    text: str
    role: str

    @property
    def sign(self) -> str:
        return "-" if self.role == "frame" else "^"


def draw(finding: Finding, documents: Documents, style: Style) -> list[str]:
    """Header arrows, source lines and carets of all labels; the primary label's file or cell comes first."""
    wide = gutter(finding, documents)
    bar = style("frame", " " * (wide + 1) + "|")
    lines: list[str] = []
    for index, (path, labels) in enumerate(_by_file(finding, documents)):
        first = next((label for label in labels if label.primary), labels[0])
        arrow = ":::" if index else "-->"
        lines += [bar] if index else []
        lines.append(f"{' ' * wide}{style('frame', arrow)} {where(first.place, documents)}")
        document = documents.get(path)
        if document is None or not document.text:
            equals = style("frame", " " * (wide + 1) + "=")
            lines += [f"{equals} {printable(label.text)}" for label in labels if label.text]
            continue
        lines.append(bar)
        lines += _file(document, labels, wide, finding.severity.value, style)
    return [*lines, bar]


def gutter(finding: Finding, documents: Documents) -> int:
    """Columns of the widest line number."""
    return max(len(str(spot(label.place, documents).span.line)) for label in finding.labels)


def _by_file(finding: Finding, documents: Documents) -> list[tuple[str, list[Label]]]:
    """The labels of each file, in notebooks of each cell."""
    groups: dict[tuple[str, int | None], list[Label]] = {}
    for label in sorted(finding.labels, key=lambda label: not label.primary):
        at = spot(label.place, documents)
        groups.setdefault((at.path, at.cell), []).append(label)
    return [(path, labels) for (path, _), labels in groups.items()]


def _file(document: Document, labels: Sequence[Label], wide: int, severity: str, style: Style) -> list[str]:
    by_line: dict[int, list[Label]] = {}
    for label in sorted(labels, key=lambda label: label.place):
        by_line.setdefault(label.place.span.line, []).append(label)
    cell = document.cell(labels[0].place.span.line)
    up = cell.first_line - 1 if cell else 0
    lines: list[str] = []
    previous = 0
    for number, group in by_line.items():
        if previous and number == previous + 2:
            lines.append(_numbered(previous + 1 - up, _cells(document.line(previous + 1))[0], wide, style))
        elif previous and number > previous + 2:
            lines.append(style("frame", "..."))
        lines += _labelled(document, group, up, wide, severity, style)
        previous = number
    return lines


def _numbered(number: int, text: str, wide: int, style: Style) -> str:
    return f"{style('frame', f'{number:>{wide}} |')} {text}".rstrip()


def _labelled(
    document: Document, labels: Sequence[Label], up: int, wide: int, severity: str, style: Style
) -> list[str]:
    number = labels[0].place.span.line
    line = document.line(number)
    first, last = _window(line, labels)
    head, tail = "…" if first else "", "…" if last < len(line) else ""
    text, starts = _cells(f"{head}{line[first:last]}{tail}")
    marks = [_mark(label, line, first - len(head), starts, severity) for label in labels]
    margin = style("frame", " " * (wide + 1) + "|")
    return [_numbered(number - up, text, wide, style), *(f"{margin} {row}".rstrip() for row in _rows(marks, style))]


def _window(line: str, labels: Sequence[Label]) -> tuple[int, int]:
    """The part of a line that is shown: all of it, or the surroundings of its first label if it is very long."""
    if len(line) <= _LONGEST:
        return 0, len(line)
    first = max(0, min(label.place.span.column for label in labels) - 1 - _BEFORE)
    return first, first + _LONGEST


def _mark(label: Label, line: str, shift: int, starts: list[int], severity: str) -> _Mark:
    """Display columns of a label; of a span over several lines its first line is marked to the end."""
    span = label.place.span
    end_column = span.end_column if span.end_line == span.line else len(line.rstrip()) + 1
    start, end = (starts[max(0, min(column - 1 - shift, len(starts) - 1))] for column in (span.column, end_column))
    return _Mark(start, max(end, start + 1), printable(label.text), severity if label.primary else "frame")


def _cells(line: str) -> tuple[str, list[int]]:
    """The line as shown, and the display column at which each of its code points starts."""
    if line.isascii() and line.isprintable():
        return line, list(range(len(line) + 1))
    shown: list[str] = []
    starts = [0]
    for character in line:
        piece = " " * (_TAB - starts[-1] % _TAB) if character == "\t" else _picture(character)
        shown.append(piece)
        starts.append(starts[-1] + sum(map(_width, piece)))
    return "".join(shown), starts


def _picture(character: str) -> str:
    """The character, or a harmless stand-in: source must neither command the terminal nor reorder the line."""
    if character.isprintable():
        return character
    category = unicodedata.category(character)
    if category == "Zs":
        return " "
    return printable(character) if category == "Cc" else "\ufffd"


def _width(character: str) -> int:
    if character.isascii():
        return 1
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def _rows(marks: list[_Mark], style: Style) -> list[str]:
    """The caret row with the last label's text behind it, then the other texts hanging below their carets."""
    marks = sorted(marks, key=lambda mark: (mark.start, mark.role != "frame"))
    last = marks[-1]
    carets = [(" ", "")] * max(mark.end for mark in marks)
    for mark in sorted(marks, key=lambda mark: mark.role != "frame"):
        carets[mark.start : mark.end] = [(mark.sign, mark.role)] * (mark.end - mark.start)
    carets += [(character, last.role) for character in (f" {last.text}" if last.text else "")]
    hanging = [mark for mark in marks[:-1] if mark.text]
    rows = [carets, *([_stems(hanging)] if hanging else [])]
    while hanging:
        mark = hanging.pop()
        stems = _stems([other for other in hanging if other.start < mark.start])
        stems += [(" ", "")] * (mark.start - len(stems))
        rows.append([*stems, *((character, mark.role) for character in mark.text)])
    return [style.cells(row) for row in rows]


def _stems(marks: list[_Mark]) -> list[tuple[str, str]]:
    row = [(" ", "")] * max((mark.start + 1 for mark in marks), default=0)
    for mark in marks:
        row[mark.start] = ("|", mark.role)
    return row
