"""Places in text: positions, spans, documents and edits.

Lines and columns are 1-based and count Unicode code points; the end of a span is exclusive.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from msgspec import Struct


class Span(NamedTuple):
    """A stretch of text: from (line, column) up to, but not including, (end_line, end_column)."""

    line: int
    column: int
    end_line: int
    end_column: int


class Place(NamedTuple):
    """A span in a named file. `path` is as the user gave or discovery found it."""

    path: str
    span: Span


class Edit(NamedTuple):
    """Replace the text at `place` by `replacement`; an empty span inserts."""

    place: Place
    replacement: str


class Cell(NamedTuple):
    """A code cell of a notebook, in the document that holds all of them one below the other."""

    number: int
    """Among all cells of the notebook, those of text included, from 1: what Jupyter's users count."""
    first_line: int
    """The document's line that is the cell's line 1."""
    file_lines: tuple[int, ...] = ()
    """The line of the file in which each line of the cell is written."""


def line_starts(text: str) -> tuple[int, ...]:
    """Where the lines of a text begin, which end at LF."""
    starts = [0]
    position = text.find("\n")
    while position >= 0:
        starts.append(position + 1)
        position = text.find("\n", position + 1)
    return tuple(starts)


class Document(Struct, frozen=True):
    """The text of one file, with its line index. Of a notebook it is the text of the code cells."""

    path: str
    text: str
    line_starts: tuple[int, ...]
    cells: tuple[Cell, ...] = ()
    """In the order of the document; empty for all but notebooks."""
    tree: object = None
    """Of a file that a program writes from an object: that object, where a reader would make its tree of the text."""

    def __hash__(self) -> int:
        return hash((self.path, self.text))  # a tuple's hash is worked out anew each time, a text's is kept

    @classmethod
    def of(cls, path: str, text: str, cells: tuple[Cell, ...] = ()) -> Document:
        """A document over `text`. Lines end at LF; a CR before it belongs to the line's content."""
        return cls(path, text, line_starts(text), cells)

    def line(self, number: int) -> str:
        """Line `number` (1-based) without its line end; empty beyond the last line."""
        if not 1 <= number <= len(self.line_starts):
            return ""
        start = self.line_starts[number - 1]
        end = self.text.find("\n", start)
        return (self.text[start:] if end < 0 else self.text[start:end]).removesuffix("\r")

    def line_end(self, number: int) -> str:
        """What ends line `number`; of the last one, and of one beyond it, what ends the line before. LF without any."""
        start = max(self.line_starts[: number + 1])
        return "\r\n" if start > 1 and self.text[start - 2] == "\r" else "\n"

    def offset(self, line: int, column: int) -> int:
        """Index into `text` of a 1-based (line, column)."""
        return self.line_starts[line - 1] + column - 1

    def position(self, offset: int) -> tuple[int, int]:
        """The 1-based (line, column) of an index into `text`."""
        line = bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1

    def span(self, start: int, end: int) -> Span:
        """The span of `text[start:end]`."""
        starts = self.line_starts
        line = bisect_right(starts, start)
        last = bisect_right(starts, end)
        return Span(line, start - starts[line - 1] + 1, last, end - starts[last - 1] + 1)

    def slice(self, span: Span) -> str:
        """The text that `span` covers."""
        return self.text[self.offset(span.line, span.column) : self.offset(span.end_line, span.end_column)]

    def cell(self, line: int) -> Cell | None:
        """The cell that `line` lies in, None outside of notebooks."""
        index = bisect_right(self.cells, line, key=lambda cell: cell.first_line)
        return self.cells[index - 1] if index else None


def masked(document: Document, spans: Iterable[Span]) -> Document:
    """The document with everything outside of `spans` blanked, so that a part is read with its own positions."""
    text = document.text
    pieces: list[str] = []
    done = 0
    for span in sorted(spans):
        start, end = document.offset(span.line, span.column), document.offset(span.end_line, span.end_column)
        pieces += (_blank(text[done:start]), text[max(start, done) : end])
        done = max(done, end)
    return Document.of(document.path, "".join((*pieces, _blank(text[done:]))), document.cells)


def _blank(text: str) -> str:
    return "\n".join(" " * len(line) for line in text.split("\n"))


def apply_edits(document: Document, edits: Iterable[Edit]) -> str:
    """The document's text after all `edits`.

    Raises:
        ValueError: two edits overlap, or one belongs to another file.
    """
    ordered = sorted(edits, key=lambda edit: edit.place.span)
    pieces: list[str] = []
    for before, after in pairwise(ordered):
        first, second = before.place.span, after.place.span
        if (first.end_line, first.end_column) > (second.line, second.column):
            raise ValueError(f"overlapping edits at line {second.line}")
    done = 0
    for edit in ordered:
        if edit.place.path != document.path:
            raise ValueError(f"edit of {edit.place.path} applied to {document.path}")
        span = edit.place.span
        pieces += (document.text[done : document.offset(span.line, span.column)], edit.replacement)
        done = document.offset(span.end_line, span.end_column)
    return "".join((*pieces, document.text[done:]))


def edited(document: Document, edits: Iterable[Edit]) -> Document:
    """The document after all `edits`, its cells moved along.

    Raises:
        ValueError: as `apply_edits`.
    """
    edits = tuple(edits)
    text = apply_edits(document, edits)
    return Document.of(document.path, text, tuple(_moved(cell, edits) for cell in document.cells))


def _moved(cell: Cell, edits: tuple[Edit, ...]) -> Cell:
    """The cell where it begins once the edits above it are made. It keeps the lines of the file as it was."""
    above = [edit for edit in edits if edit.place.span.line < cell.first_line]
    grown = sum(edit.replacement.count("\n") - edit.place.span.end_line + edit.place.span.line for edit in above)
    return cell._replace(first_line=cell.first_line + grown)
