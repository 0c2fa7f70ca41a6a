"""Building a tree of located values from tokens that arrive in text order, without recursion."""

from __future__ import annotations

from msgspec import Struct, field

from vramlint.text import Document, Place, Span
from vramlint.values import Entry, Items, Plain, Problem, Scalar, Table, Unknown, Value

MAX_DEPTH = 256
"""Nesting that a reader accepts. `json.load` gives up near 1000; whoever walks the tree may then recurse."""


class ReadError(Exception):
    """A syntax error at `text[start:end]`; readers turn it into a `Problem`."""

    def __init__(self, message: str, start: int, end: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.start = start
        self.end = start + 1 if end is None else end

    def problem(self, document: Document) -> Problem:
        """The problem to report, its place kept inside the text."""
        size = len(document.text)
        start = min(self.start, size)
        end = max(start, min(self.end, size))
        return Problem("syntax-error", self.message, Place(document.path, document.span(start, end)))


class _Open(Struct):
    """A table or list whose end is not read yet."""

    is_table: bool
    start: int
    line: int
    column: int
    key: tuple[str, Place] | None = None
    """The key that waits for its value."""
    entries: list[Entry] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    """Line on which each key was first written."""


class TreeBuilder:
    """Takes keys, scalars, opening and closing brackets by offset; `root` is the tree once all are closed."""

    def __init__(self, document: Document) -> None:
        self.root: Value | None = None
        self.problems: list[Problem] = []
        self._document = document
        self._starts = (*document.line_starts, len(document.text) + 1)
        self._line = 1
        self._stack: list[_Open] = []

    @property
    def depth(self) -> int:
        """How many tables and lists are open."""
        return len(self._stack)

    @property
    def in_table(self) -> bool:
        """Whether the innermost open bracket is a table."""
        return bool(self._stack) and self._stack[-1].is_table

    @property
    def opened_at(self) -> int:
        """Offset of the innermost open bracket."""
        return self._stack[-1].start

    def place(self, start: int, end: int) -> Place:
        """The place of `text[start:end]`; starts must not decrease between calls."""
        starts = self._starts
        line = self._line
        while starts[line] <= start:
            line += 1
        self._line = line
        begin = starts[line - 1]
        column = start - begin + 1
        if end < starts[line]:
            return Place(self._document.path, Span(line, column, line, end - begin + 1))
        return Place(self._document.path, Span(line, column, *self._document.position(end)))

    def open(self, is_table: bool, start: int) -> None:
        """An opening bracket.

        Raises:
            ReadError: nested deeper than `MAX_DEPTH`.
        """
        if len(self._stack) >= MAX_DEPTH:
            raise ReadError(f"nested deeper than {MAX_DEPTH} levels", start)
        span = self.place(start, start).span
        self._stack.append(_Open(is_table, start, span.line, span.column))

    def key(self, name: str, start: int, end: int) -> None:
        """A key of the innermost table; a repeated one is a problem but stays in the tree."""
        top = self._stack[-1]
        place = self.place(start, end)
        first = top.seen.get(name)
        top.seen.setdefault(name, place.span.line)
        if first is not None:
            message = f"key `{name}` is written twice (first on line {first}); the last one wins"
            self.problems.append(Problem("duplicate-key", message, place))
        top.key = (name, place)

    def scalar(self, value: Plain, start: int, end: int) -> None:
        """A value without children."""
        self._add(Scalar(value, self.place(start, end)))

    def unknown(self, reason: str, start: int, end: int) -> None:
        """A value that the text leaves open."""
        self._add(Unknown(reason, self.place(start, end)))

    def close(self, end: int) -> None:
        """The closing bracket that ends before offset `end`."""
        top = self._stack.pop()
        starts = self._starts
        line = self._line
        while starts[line] <= end - 1:
            line += 1
        self._line = line
        span = Span(top.line, top.column, line, end - starts[line - 1] + 1)
        place = Place(self._document.path, span)
        self._add(Table(tuple(top.entries), place) if top.is_table else Items(tuple(top.values), place))

    def _add(self, value: Value) -> None:
        if not self._stack:
            self.root = value
            return
        top = self._stack[-1]
        if top.key is None:
            top.values.append(value)
        else:
            top.entries.append(Entry(*top.key, value))
            top.key = None
