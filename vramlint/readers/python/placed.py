"""Nodes that are made of a text, and where they stand in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vramlint.readers.python import nodes as make
from vramlint.readers.python.gaps import Unsupported
from vramlint.readers.python.positions import Range
from vramlint.text import line_starts


class Placed:
    """Notes where the nodes stand that are made of one text."""

    def __init__(self, text: str, starts: Sequence[int] = ()) -> None:
        """The text, and where its lines start, if that is known."""
        self.text = text
        self.starts = starts or line_starts(text)
        lines = () if text.isascii() else text.split("\n")
        self.odd = frozenset([number for number, line in enumerate(lines, 1) if not line.isascii()])
        """The lines in which columns are no numbers of bytes."""
        self.ranges: dict[int, Range] = {}
        """Where the nodes stand that were made, by identity."""

    def offset(self, line: int, column: int) -> int:
        """The offset of a place as CPython has it, in bytes of UTF-8."""
        start = self.starts[line - 1]
        if line not in self.odd:
            return start + column
        return start + len(self.text[start : start + column].encode()[:column].decode())

    def start(self, node: Any) -> int:  # noqa: ANN401 (what has places has no common class)
        """Where something begins."""
        return self.offset(node.lineno, node.col_offset)

    def end(self, node: Any) -> int:  # noqa: ANN401
        """Where something ends."""
        return self.offset(node.end_lineno, node.end_col_offset)

    def at(self, made: Any, start: int, end: int) -> Any:  # noqa: ANN401 (nodes are made with fields of any kind)
        """The node, of which it is noted where it stands."""
        self.ranges[id(made)] = start, end
        return made

    def word(self, text: str, start: int) -> Any:  # noqa: ANN401
        """A name that is written at a place.

        Raises:
            Unsupported: something else is, of which Python makes the name.
        """
        if not self.text.startswith(text, start):
            raise Unsupported(text)
        return self.at(make.name(text), start, start + len(text))

    def dotted(self, text: str, start: int) -> Any:  # noqa: ANN401
        """`a.b.c` at a place."""
        first, *rest = text.split(".")
        made = self.word(first, start)
        end = start + len(first)
        for part in rest:
            if not self.text.startswith(".", end):
                raise Unsupported(text)
            attr = self.word(part, end + 1)
            end += 1 + len(part)
            made = self.at(make.attribute(made, attr), start, end)
        return made
