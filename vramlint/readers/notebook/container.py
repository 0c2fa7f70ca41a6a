"""The JSON of a notebook: its cells, and where in the file each piece of their source is written.

A notebook is mostly outputs. These are stepped over by the standard library's scanner, so that megabytes of images
cost milliseconds and only the few pieces of source are located.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import Struct

from vramlint.patterns import lazy

_SPACE = lazy(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()

_LANGUAGES = lazy(r"(?:i?python|pypy|sage|mojo)[\d.]*", re.IGNORECASE)
"""Languages, kernels' or cells', whose cells are read as Python."""


class Piece(NamedTuple):
    """One JSON string of a cell's source."""

    value: str
    start: int
    """Where its opening quote stands in the file."""
    end: int
    """Just behind its closing quote."""


class RawCell(Struct, frozen=True):
    """One cell as the file has it."""

    number: int
    """Among all cells, from 1."""
    is_code: bool
    """Python, that is to say."""
    pieces: tuple[Piece, ...]
    is_list: bool
    """The source is a list of strings, usually one a line."""
    start: int
    """Where the source's value starts in the file; 0 where there is none."""
    end: int

    @property
    def text(self) -> str:
        """The source."""
        return "".join(piece.value for piece in self.pieces)


class Fault(Struct, frozen=True):
    """Why a text is no notebook, and where."""

    message: str
    at: int


class _Malformed(Exception):  # noqa: N818 (raised and caught in here)
    def __init__(self, message: str, at: int) -> None:
        self.fault = Fault(message, at)


def read_cells(text: str) -> tuple[RawCell, ...] | Fault:
    """The cells of a notebook of nbformat 2 to 4, those that are no Python marked so."""
    start = 1 if text.startswith("\ufeff") else 0
    try:
        return _notebook(text, start)
    except _Malformed as error:
        return error.fault
    except json.JSONDecodeError as error:
        return Fault(error.msg[:1].lower() + error.msg[1:], error.pos)
    except RecursionError:
        return Fault("nested too deep to be read", start)
    except ValueError as error:  # a number of too many digits
        return Fault(str(error), start)


def _notebook(text: str, start: int) -> tuple[RawCell, ...]:
    cells: list[_Cell] = []
    language = ""

    def worksheet(at: int) -> int:
        def member(key: str, at: int) -> int | None:
            return _array(text, at, cell) if key == "cells" else None

        return _object(text, at, member)

    def cell(at: int) -> int:
        made = _Cell()
        end = _object(text, at, lambda key, at: made.take(text, key, at))
        cells.append(made)
        return end

    def member(key: str, at: int) -> int | None:
        nonlocal language
        match key:
            case "cells":
                return _array(text, at, cell)
            case "worksheets":  # nbformat 2 and 3
                return _array(text, at, worksheet)
            case "metadata":
                metadata, end = _DECODER.raw_decode(text, at)
                language = _language(metadata)
                return end
            case _:
                return None

    end = _object(text, _past_space(text, start), member)
    if _past_space(text, end) != len(text):
        raise _Malformed("more stands behind the notebook", end)
    foreign = bool(language) and not _LANGUAGES.fullmatch(language)
    return tuple(made.frozen(number, foreign) for number, made in enumerate(cells, 1))


class _Source(NamedTuple):
    """As the members of `RawCell`."""

    pieces: tuple[Piece, ...]
    is_list: bool
    start: int
    end: int


class _Cell:
    """A cell while its members are read: they come in any order."""

    def __init__(self) -> None:
        self.kind = ""
        self.language = ""
        self.sources: dict[str, _Source] = {}

    def take(self, text: str, key: str, at: int) -> int | None:
        """A member; where it ends, None where it is of no interest."""
        if key in ("source", "input"):
            self.sources[key] = _source(text, at)
            return self.sources[key].end
        if key not in ("cell_type", "language", "metadata"):
            return None
        value, end = _DECODER.raw_decode(text, at)
        if key == "cell_type":
            self.kind = str(value)
        elif key == "language":  # of nbformat 2 and 3
            self.language = str(value)
        else:
            editor = value.get("vscode") if isinstance(value, dict) else None
            chosen = editor.get("languageId") if isinstance(editor, dict) else None
            self.language = str(chosen) if chosen else self.language
        return end

    def frozen(self, number: int, foreign: bool) -> RawCell:
        python = not self.language or _LANGUAGES.fullmatch(self.language) is not None
        source = self.sources.get("source") or self.sources.get("input") or _Source((), False, 0, 0)
        return RawCell(number, self.kind == "code" and python and not foreign, *source)


def _source(text: str, at: int) -> _Source:
    pieces: list[Piece] = []

    def piece(at: int) -> int:
        if text[at : at + 1] != '"':
            raise _Malformed("the source of a cell is text or a list of texts", at)
        value, end = _DECODER.raw_decode(text, at)
        pieces.append(Piece(value, at, end))
        return end

    is_list = text[at : at + 1] == "["
    end = _array(text, at, piece) if is_list else piece(at)
    return _Source(tuple(pieces), is_list, at, end)


def _language(metadata: object) -> str:
    """The language of the kernel, empty where it isn't said (nbformat: `kernelspec`, `language_info`)."""
    if not isinstance(metadata, dict):
        return ""
    kernel, info = metadata.get("kernelspec"), metadata.get("language_info")
    found: list[Any] = [item.get(key) for item, key in ((info, "name"), (kernel, "language")) if isinstance(item, dict)]
    return next((name for name in found if name and isinstance(name, str)), "")


def _object(text: str, at: int, member: Callable[[str, int], int | None]) -> int:
    """Walk an object; `member` gets each key with where its value starts, and says where that ends."""

    def part(at: int) -> int:
        if text[at : at + 1] != '"':
            raise _Malformed("expecting a property name in double quotes", at)
        key, end = _DECODER.raw_decode(text, at)
        colon = _past_space(text, end)
        if text[colon : colon + 1] != ":":
            raise _Malformed("expecting a colon", colon)
        value = _past_space(text, colon + 1)
        behind = member(key, value)
        return _past_value(text, value) if behind is None else behind

    return _parts(text, at, "{}", part)


def _array(text: str, at: int, item: Callable[[int], int]) -> int:
    """Walk an array; `item` gets where each item starts, and says where it ends."""
    return _parts(text, at, "[]", item)


def _parts(text: str, at: int, brackets: str, part: Callable[[int], int]) -> int:
    opening, closing = brackets[0], brackets[1]
    if text[at : at + 1] != opening:
        raise _Malformed(f"expecting `{opening}` here in a notebook", at)
    at = _past_space(text, at + 1)
    if text[at : at + 1] == closing:
        return at + 1
    while True:
        at = _past_space(text, part(at))
        sign = text[at : at + 1]
        if sign == closing:
            return at + 1
        if sign != ",":
            raise _Malformed(f"expecting a comma or `{closing}`", at)
        at = _past_space(text, at + 1)


def _past_value(text: str, at: int) -> int:
    return _DECODER.raw_decode(text, at)[1]


def _past_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
