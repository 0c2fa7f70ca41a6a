"""Finds where the keys and values of a valid TOML text stand."""

from __future__ import annotations

import re
from contextlib import suppress

import tomli
from msgspec import Struct

from vramlint.patterns import lazy

_GAP = lazy(r"(?:[ \t\r\n]+|\#[^\n]*)*")
_BLANK = lazy(r"[ \t]*")
_BARE_KEY = lazy(r"[A-Za-z0-9_-]+")
_STRING = lazy(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")'
    r"|'''(?:.)*?'{3,5}(?!')"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_ATOM = lazy(r"[^\s,\]}#]+(?: [0-9][^\s,\]}#]*)?")
"""A number, bool or date; a date may hold one blank before its time."""

_DEEPEST = 64
"""Brackets inside brackets that the scan follows; deeper values have no places."""

Path = tuple[str | int, ...]


class At(Struct, frozen=True):
    """Offsets of a key (its last part, when dotted) and of its value; an element of an array has no key."""

    key_start: int
    key_end: int
    start: int
    end: int


def find_places(text: str, start: int = 0) -> dict[Path, At]:
    """Where each path of the document is written; what the scan cannot follow is left out."""
    scan = _Scan(text, start)
    with suppress(_LostError):
        scan.document()
    return scan.places


class _LostError(Exception):
    """The text is not what the scan expects; places found so far stay."""


class _Scan:
    def __init__(self, text: str, start: int) -> None:
        self.text = text
        self.position = start
        self.places: dict[Path, At] = {}
        self.counts: dict[Path, int] = {}
        """Tables so far in each array of tables."""

    def document(self) -> None:
        """Reads all headers and `key = value` lines."""
        prefix: Path = ()
        while True:
            self.skip(_GAP)
            if self.position >= len(self.text):
                return
            if self.text.startswith("[", self.position):
                prefix = self.header()
            else:
                self.pair(prefix, 0)

    def header(self) -> Path:
        """Reads `[a.b]` or `[[a.b]]`; gives the path under which the following keys stand."""
        is_array = self.text.startswith("[[", self.position)
        self.position += 2 if is_array else 1
        parts = self.dotted_key()
        self.expect("]]" if is_array else "]")
        path: Path = ()
        for index, (name, start, end) in enumerate(parts):
            path = (*path, name)
            last = index == len(parts) - 1
            self.places.setdefault(path, At(start, end, start, start))
            if last and is_array:
                self.counts[path] = self.counts.get(path, 0) + 1
            if path in self.counts:
                path = (*path, self.counts[path] - 1)
        return path

    def pair(self, prefix: Path, depth: int) -> None:
        """Reads `key = value`."""
        parts = self.dotted_key()
        self.expect("=")
        path = prefix
        for name, start, end in parts[:-1]:
            path = (*path, name)
            self.places.setdefault(path, At(start, end, start, start))
        name, start, end = parts[-1]
        path = (*path, name)
        self.skip(_BLANK)
        begin = self.position
        self.value(path, depth)
        self.places[path] = At(start, end, begin, self.position)

    def value(self, path: Path, depth: int) -> None:
        """Reads a value; notes the places of what an array or inline table holds."""
        if depth > _DEEPEST:
            raise _LostError
        mark = self.text[self.position : self.position + 1]
        if mark == "[":
            self.array(path, depth)
        elif mark == "{":
            self.inline_table(path, depth)
        else:
            match = (_STRING if mark in ('"', "'") else _ATOM).match(self.text, self.position)
            if match is None:
                raise _LostError
            self.position = match.end()

    def array(self, path: Path, depth: int) -> None:
        self.position += 1
        index = 0
        while True:
            self.skip(_GAP)
            if self.text.startswith("]", self.position):
                self.position += 1
                return
            begin = self.position
            self.value((*path, index), depth + 1)
            self.places[(*path, index)] = At(begin, begin, begin, self.position)
            index += 1
            self.skip(_GAP)
            if self.text.startswith(",", self.position):
                self.position += 1

    def inline_table(self, path: Path, depth: int) -> None:
        self.position += 1
        while True:
            self.skip(_GAP)
            if self.text.startswith("}", self.position):
                self.position += 1
                return
            self.pair(path, depth + 1)
            self.skip(_GAP)
            if self.text.startswith(",", self.position):
                self.position += 1

    def dotted_key(self) -> list[tuple[str, int, int]]:
        """Reads `a."b".c`; each part with its offsets."""
        parts = []
        while True:
            self.skip(_BLANK)
            start = self.position
            match = _BARE_KEY.match(self.text, start) or _STRING.match(self.text, start)
            if match is None:
                raise _LostError
            self.position = match.end()
            parts.append((_name(match[0]), start, self.position))
            self.skip(_BLANK)
            if not self.text.startswith(".", self.position):
                return parts
            self.position += 1

    def expect(self, mark: str) -> None:
        self.skip(_BLANK)
        if not self.text.startswith(mark, self.position):
            raise _LostError
        self.position += len(mark)

    def skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.position)
        if match is not None:
            self.position = match.end()


def _name(written: str) -> str:
    """The key that a bare or quoted key stands for."""
    if written[0] not in "\"'":
        return written
    if written[0] == "'" or "\\" not in written:
        return written[1:-1]
    try:
        return next(iter(tomli.loads(f"{written} = 0")))
    except (tomli.TOMLDecodeError, StopIteration):
        raise _LostError from None
