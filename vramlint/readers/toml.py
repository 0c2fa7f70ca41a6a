"""Reads TOML: values by tomli, places by a scan of the text that tomli has found valid."""

from __future__ import annotations

from datetime import date, datetime, time

import tomli

from vramlint.readers.toml_places import At, find_places
from vramlint.readers.tree import MAX_DEPTH, ReadError
from vramlint.text import Document, Place
from vramlint.values import Entry, Items, Problem, Reading, Scalar, Table, Value

Path = tuple[str | int, ...]


def read_toml(document: Document) -> Reading:
    """The tree of a TOML document; a place is None where the scan is not certain. Dates stay text."""
    text = document.text.removeprefix("\ufeff")
    shift = len(document.text) - len(text)
    try:
        raw = tomli.loads(text)
        root = _Converter(document, find_places(document.text, shift)).table(raw, ())
    except tomli.TOMLDecodeError as error:
        fault = ReadError(_message(error.msg), error.pos + shift)
        return Reading(None, (fault.problem(document),))
    except ReadError as fault:
        return Reading(None, (fault.problem(document),))
    except (RecursionError, ValueError) as error:
        return Reading(None, (ReadError(str(error) or "nested too deeply", shift).problem(document),))
    if not raw:
        place = Place(document.path, document.span(0, 0))
        return Reading(root, (Problem("empty-file", "the file holds no value", place),))
    return Reading(root)


def _message(text: str) -> str:
    return text[:1].lower() + text[1:]


class _Converter:
    """Joins what tomli read with where it is written."""

    def __init__(self, document: Document, places: dict[Path, At]) -> None:
        self._document = document
        self._places = places

    def table(self, raw: dict[str, object], path: Path) -> Table:
        """The located table behind tomli's dict at `path`."""
        if len(path) > MAX_DEPTH:
            raise ReadError(f"nested deeper than {MAX_DEPTH} levels", 0)
        entries = []
        for key, item in raw.items():
            at = self._places.get((*path, key))
            key_place = self._place(at.key_start, at.key_end) if at else None
            entries.append(Entry(key, key_place, self._value(item, (*path, key))))
        return Table(tuple(entries), self._value_place(path))

    def _value(self, raw: object, path: Path) -> Value:
        if isinstance(raw, dict):
            return self.table(raw, path)
        if len(path) > MAX_DEPTH:
            raise ReadError(f"nested deeper than {MAX_DEPTH} levels", 0)
        if isinstance(raw, list):
            values = tuple(self._value(item, (*path, index)) for index, item in enumerate(raw))
            return Items(values, self._value_place(path))
        if isinstance(raw, (date, datetime, time)):
            return Scalar(raw.isoformat(), self._value_place(path))
        if isinstance(raw, (str, int, float)):
            return Scalar(raw, self._value_place(path))
        raise ValueError(f"a TOML value of type {type(raw).__name__}")

    def _value_place(self, path: Path) -> Place | None:
        at = self._places.get(path)
        return self._place(at.start, at.end) if at and at.end > at.start else None

    def _place(self, start: int, end: int) -> Place:
        return Place(self._document.path, self._document.span(start, end))
