"""The text of a scalar of YAML, JSON or Python as an excerpt: each character with the place where it is written."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vramlint.patterns import lazy
from vramlint.readers.excerpts import Excerpt, Piece
from vramlint.text import Document, Place

_PYTHON = lazy(r"(?i)[rbuf]{0,2}(\"\"\"|'''|\"|')")
_BLOCK = lazy(r"[|>][-+0-9]*[^\n]*\n?")
_ESCAPE = lazy(r"\\(?:\r?\n[ \t]*|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_WHITE = frozenset("nrtbvfae0_NLP \t")
"""Letters behind a backslash that stand for white space or for nothing to be seen."""

_Unit = tuple[int, int, str]
"""Start and end offset in the source, and the character meant; empty for one that is given by its number."""


def excerpt_of(document: Document, text: str, place: Place | None) -> Excerpt:
    """The value `text` of a scalar that is written at `place`.

    Where the characters of the value can't be found one after the other (another file's value, text put together by a
    program), the whole value is one piece that covers the place.
    """
    if place is None or place.path != document.path:
        return Excerpt.of(document, [Piece(text, 0, 0)])
    span = place.span
    start, end = document.offset(span.line, span.column), document.offset(span.end_line, span.end_column)
    aligned = _aligned(text, list(_units(document.text, start, end)), start)
    return Excerpt.of(document, aligned if aligned is not None else [Piece(text, start, end)])


def _units(source: str, start: int, end: int) -> Iterator[_Unit]:
    """The characters between the quotes, escapes as one."""
    block = _BLOCK.match(source, start, end)
    quote = _PYTHON.match(source, start, end)
    if block:
        return _plain(source, block.end(), end)
    if quote is None:
        return _plain(source, start, end)
    inner = (quote.end(), max(end - len(quote[1]), quote.end()))
    if quote[1] == "'" and "''" in source[slice(*inner)]:
        return _single(source, *inner)
    return _double(source, *inner)


def _plain(source: str, start: int, end: int) -> Iterator[_Unit]:
    return ((at, at + 1, source[at]) for at in range(start, end))


def _single(source: str, start: int, end: int) -> Iterator[_Unit]:
    at = start
    while at < end:
        width = 2 if source.startswith("''", at) else 1
        yield at, at + width, source[at]
        at += width


def _double(source: str, start: int, end: int) -> Iterator[_Unit]:
    at = start
    while at < end:
        escape = _ESCAPE.match(source, at, end)
        if escape is None:
            yield at, at + 1, source[at]
            at += 1
            continue
        letter = escape[0][1]
        if letter in _WHITE or letter in "\r\n":
            yield at, escape.end(), " "
        elif letter in "xuU" and len(escape[0]) > 2:
            yield at, escape.end(), ""
        else:
            yield at, escape.end(), letter
        at = escape.end()


def _aligned(text: str, units: list[_Unit], start: int) -> list[Piece] | None:
    """The value's characters with the units that write them; white space is where the value has it."""
    seen = [unit for unit in units if not unit[2].isspace()]
    pieces: list[Piece] = []
    number = 0
    end = start
    for character in text:
        if character.isspace():
            at = end
            exact = at < units[-1][1] and _is_unit(units, at, character) if units else False
            pieces.append(Piece(character, at, at + 1 if exact else at))
            end = at + 1 if exact else at
            continue
        if number == len(seen) or seen[number][2] not in ("", character):
            return None
        unit = seen[number]
        pieces.append(Piece(character, unit[0], unit[1]))
        end = unit[1]
        number += 1
    return _merged(pieces) if number == len(seen) else None


def _is_unit(units: list[_Unit], at: int, character: str) -> bool:
    """Whether the source has that white space at that very offset."""
    index = at - units[0][0]
    return 0 <= index < len(units) and units[index] == (at, at + 1, character)


def _merged(pieces: list[Piece]) -> list[Piece]:
    """Neighbours that are copied as they stand, put together."""
    runs: list[list[Piece]] = []
    for piece in pieces:
        last = runs[-1][-1] if runs else None
        if last is not None and last.end == piece.start and _copied(last) and _copied(piece):
            runs[-1].append(piece)
        else:
            runs.append([piece])
    return [Piece("".join(piece.text for piece in run), run[0].start, run[-1].end) for run in runs]


def _copied(piece: Piece) -> bool:
    return piece.end - piece.start == len(piece.text)
