"""Edits of a notebook's code, made in its file: of the JSON only the strings that change are written anew."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from msgspec import Struct

from vramlint.patterns import lazy
from vramlint.readers.notebook.container import Fault, Piece, RawCell, read_cells
from vramlint.readers.notebook.document import gathered
from vramlint.text import Document, Edit

_CHARACTER = lazy(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|.", re.DOTALL)
"""How JSON writes one code point."""

_ESCAPED = lazy(r"\\u(?!00[01])[0-9a-fA-F]{4}")
"""An escape that only a writer uses that keeps its output in ASCII, or that guards HTML."""


def rewritten(original: str, edits: Iterable[Edit]) -> str:
    """A notebook's file after edits of the document of its code cells.

    The strings of `source` in which an edit lies change, and where lines come or go the list that holds them; all else
    stays as it is: outputs, metadata, the order of keys, indentation, line ends, escapes.

    Args:
        original: the text of the file.
        edits: in positions of `notebook_document`, each within one cell.

    Raises:
        ValueError: the text is no notebook, two edits overlap, or one lies in no cell or in several.
    """
    cells = read_cells(original)
    if isinstance(cells, Fault):
        raise ValueError(f"no notebook: {cells.message}")
    code = [cell for cell in cells if cell.is_code]
    document = gathered(Document.of("", original), code)
    changes: dict[int, list[_Change]] = {}
    for edit in edits:
        number, change = _change(document, code, edit)
        changes.setdefault(number, []).append(change)
    ascii_only = original.isascii() and _ESCAPED.search(original) is not None
    done = 0
    pieces: list[str] = []
    for number in sorted(changes):
        cell = code[number]
        pieces += (original[done : cell.start], _Cell(original, cell, ascii_only).after(changes[number]))
        done = cell.end
    return "".join((*pieces, original[done:]))


class _Change(NamedTuple):
    """Replace part of a cell's source."""

    start: int
    end: int
    text: str


def _change(document: Document, code: list[RawCell], edit: Edit) -> tuple[int, _Change]:
    """The cell's index, and the change of its source."""
    span = edit.place.span
    lines = range(1, len(document.line_starts) + 1)
    if span.line not in lines or span.end_line not in lines:
        raise ValueError(f"no line {span.end_line} in the notebook")
    start, end = document.offset(span.line, span.column), document.offset(span.end_line, span.end_column)
    index = next((i for i in range(len(code) - 1, -1, -1) if document.cells[i].first_line <= span.line), None)
    if index is None:
        raise ValueError("an edit lies in no cell")
    first = document.line_starts[document.cells[index].first_line - 1]
    last = document.cells[index + 1].first_line if index + 1 < len(code) else len(document.line_starts)
    if span.end_line >= last and end > document.line_starts[last - 1]:
        raise ValueError("an edit lies in several cells")
    length = len(code[index].text)
    text = edit.replacement
    if start - first > length:  # behind the line end that the document adds to a cell's last line
        text = "\n" + text.removesuffix("\n")
    return index, _Change(min(start - first, length), min(end - first, length), text)


class _String(Struct):
    """A string of a cell's source while it is edited."""

    characters: list[str]
    """Each code point as the file writes it."""
    first: int | None
    """Index of the file's string that it begins with, None when it is new."""
    last: int | None
    changed: bool = False


class _Cell:
    """The source of one cell."""

    def __init__(self, original: str, cell: RawCell, ascii_only: bool) -> None:
        self._original = original
        self._cell = cell
        self._ascii_only = ascii_only
        self._strings = [
            _String(_CHARACTER.findall(original, piece.start + 1, piece.end - 1), index, index)
            for index, piece in enumerate(cell.pieces)
        ] or [_String([], None, None)]

    def after(self, changes: list[_Change]) -> str:
        """The JSON of the source after the changes.

        Raises:
            ValueError: two overlap.
        """
        changes = sorted(changes)
        for before, change in pairwise(changes):
            if before.end > change.start:
                raise ValueError("overlapping edits in a notebook")
        for change in reversed(changes):
            self._make(change)
        if not self._cell.is_list:
            return self._token(self._strings[0])
        strings = [part for string in self._strings for part in _lines(string) if part.characters]
        if not strings:
            return "[]"
        pieces, cell = self._cell.pieces, self._cell
        lead = self._original[cell.start + 1 : pieces[0].start] if pieces else ""
        tail = self._original[pieces[-1].end : cell.end - 1] if pieces else ""
        tokens = [self._token(strings[0])]
        for one, other in pairwise(strings):
            tokens += (self._between(one, other, lead), self._token(other))
        return f"[{lead}{''.join(tokens)}{tail}]"

    def _make(self, change: _Change) -> None:
        first, start = self._find(change.start)
        last, end = self._find(change.end) if change.end > change.start else (first, start)
        strings = self._strings
        written = [self._written(character) for character in change.text]
        characters = [*strings[first].characters[:start], *written, *strings[last].characters[end:]]
        if characters and characters[-1] != "\\n" and last + 1 < len(strings):
            last += 1  # what was two lines is one
            characters += strings[last].characters
        strings[first : last + 1] = [_String(characters, strings[first].first, strings[last].last, changed=True)]

    def _find(self, at: int) -> tuple[int, int]:
        """The string, and the place in it, of an offset into the source; where two meet, the start of the second."""
        for index, string in enumerate(self._strings):
            if at < len(string.characters) or index == len(self._strings) - 1:
                return index, min(at, len(string.characters))
            at -= len(string.characters)
        return 0, 0

    def _written(self, character: str) -> str:
        return json.dumps(character, ensure_ascii=self._ascii_only)[1:-1]

    def _token(self, string: _String) -> str:
        if not string.changed and string.first is not None:
            piece: Piece = self._cell.pieces[string.first]
            return self._original[piece.start : piece.end]
        return f'"{"".join(string.characters)}"'

    def _between(self, one: _String, other: _String, lead: str) -> str:
        """What separates two strings: as in the file where they were neighbours, else as its first two."""
        pieces = self._cell.pieces
        if one.last is not None and other.first == one.last + 1:
            return self._original[pieces[one.last].end : pieces[other.first].start]
        if len(pieces) > 1:
            return self._original[pieces[0].end : pieces[1].start]
        return f",{lead or ' '}"


def _lines(string: _String) -> list[_String]:
    """A changed string as one string a line."""
    ends = [index + 1 for index, character in enumerate(string.characters) if character == "\\n"]
    cuts = [end for end in ends if end < len(string.characters)]
    if not string.changed or not cuts:
        return [string]
    bounds = [0, *cuts, len(string.characters)]
    parts = [_String(string.characters[start:end], None, None, changed=True) for start, end in pairwise(bounds)]
    parts[0].first, parts[-1].last = string.first, string.last
    return parts
