"""Sorted line files: one record per line, found by bisection, so that a look-up parses only what it returns.

A data file starts with comment lines (`#`); every other line begins with its key columns, separated by
tabs. Lines are sorted by those columns in lower case, so look-ups ignore case.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

DATA = Path(__file__).parent / "data"
"""Where the data files lie."""


class Lines:
    """The lines of one sorted data file."""

    __slots__ = ("_content", "_first", "read_count")

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._first = _after_comments(content)
        self.read_count = 0
        """Lines looked at since the file was opened."""

    def starting_with(self, *columns: str) -> Iterator[tuple[str, ...]]:
        """The lines whose first columns equal `columns` (ignoring case), split at tabs, in file order."""
        prefix = ("\t".join(columns) + "\t").lower().encode()
        start = self._lower_bound(prefix)
        while start < len(self._content):
            line, start = self._line(start)
            if line[: len(prefix)].lower() != prefix:
                return
            yield tuple(line.decode().split("\t"))

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        start = self._first
        while start < len(self._content):
            line, start = self._line(start)
            yield tuple(line.decode().split("\t"))

    def _line(self, start: int) -> tuple[bytes, int]:
        """The line that starts at `start` and the start of the next one."""
        self.read_count += 1
        end = self._content.find(b"\n", start)
        end = len(self._content) if end < 0 else end
        return self._content[start:end], end + 1

    def _lower_bound(self, prefix: bytes) -> int:
        """Where the first line not below `prefix` starts."""
        low, high = self._first, len(self._content)
        while low < high:
            middle = (low + high) // 2
            start = max(self._content.rfind(b"\n", low, middle) + 1, low)
            line, after = self._line(start)
            if line[: len(prefix)].lower() < prefix:
                low = after
            else:
                high = start
        return min(low, len(self._content))


@cache
def lines(name: str) -> Lines:
    """The data file `name`, read once per process."""
    return Lines((DATA / name).read_bytes().replace(b"\r\n", b"\n"))


def column_names(content: bytes) -> tuple[str, ...]:
    """The column names, which the last comment line of a table lists."""
    comment = content[: _after_comments(content)].decode().rstrip("\n").rpartition("\n")[2]
    return tuple(comment.removeprefix("#").strip(" ").split("\t"))


def _after_comments(content: bytes) -> int:
    position = 0
    while content.startswith(b"#", position):
        end = content.find(b"\n", position)
        position = len(content) if end < 0 else end + 1
    return position
