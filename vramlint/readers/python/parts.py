"""Statements of a module, made LibCST's nodes as far as somebody looks at them.

A script uses little of most modules that it imports, and of the functions that it calls it takes one way of several.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import libcst as cst

from vramlint.readers.python.blocks import Statements, first_line, grouped, is_compound
from vramlint.readers.python.gaps import Unsupported, behind_comments
from vramlint.readers.python.outline import Body, Statement, outline
from vramlint.readers.python.positions import positions
from vramlint.readers.python.source import Source
from vramlint.text import Document

_BLOCKS = ("finalbody", "orelse", "handlers", "body")
"""Where CPython's statements have others inside, the last ones first."""
_OPENING = "if 1:\n"
"""What LibCST reads indented statements in."""


class Parts(Source):
    """A module of which single statements are read."""

    def __init__(self, document: Document) -> None:
        text = document.text.removeprefix("\ufeff")
        shift = len(document.text) - len(text)
        self.outline: Sequence[Statement] = outline(document)
        """The statements that bind names."""
        bodies = {id(body.node): body for statement in self.outline for body in statement.bodies}
        self._maker = _Later(text, shift, () if shift else document.line_starts, bodies)
        self._made: dict[int, Sequence[cst.CSTNode]] = {}
        super().__init__(document, self._maker.ranges, shift)

    def nodes(self, index: int) -> Sequence[cst.CSTNode]:
        """The nodes of a statement of the outline."""
        made = self._made.get(index)
        if made is None:
            statement = self.outline[index]
            made = self._made[index] = self._maker.apart(statement.nodes, statement.end - self.shift)
        return made

    def left_out(self, node: cst.CSTNode) -> int:
        """How much of a function there is to read with its body, where that is read by itself; else 0."""
        return self._maker.left_out.get(id(node), 0)


@lru_cache(maxsize=64)  # launchers of one project start the same few scripts, which import the same modules
def parts(document: Document) -> Parts:
    """The module that a document is."""
    return Parts(document)


class _Deferred(Sequence[Any]):
    """Statements of a block that are made when they are looked at."""

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[], tuple[Any, ...]]) -> None:
        self._make: Callable[[], tuple[Any, ...]] | None = make
        self._made: tuple[Any, ...] = ()

    @property
    def _all(self) -> tuple[Any, ...]:
        if self._make is not None:
            self._made = self._make()
            self._make = None
        return self._made

    def __iter__(self) -> Iterator[Any]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 (a number gives one of them, a slice several)
        return self._all[index]


class _Later(Statements):
    """Makes the statements of one text, those inside of others when they are looked at."""

    def __init__(self, text: str, shift: int, starts: Sequence[int], bodies: Mapping[int, Body]) -> None:
        """The makings of a text.

        Args:
            text: the text.
            shift: where it begins in its document.
            starts: where its lines start, if that is known.
            bodies: those that are read by themselves, by the identity of the function's node in CPython's tree.
        """
        super().__init__(text, starts)
        self.left_out: dict[int, int] = {}
        """How much there is to read of each function with such a body, by the identity of its node."""
        self._shift = shift
        self._bodies = bodies
        self._by_line = {body.node.lineno: body for body in bodies.values()}
        self._kept: list[cst.CSTNode] = []
        """Trees of LibCST's own, whose identities are in use."""

    def apart(self, nodes: Sequence[ast.stmt], most: int) -> tuple[Any, ...]:
        """Statements one below the other, those that are not made here by LibCST; comments up to `most` are theirs."""
        found: list[Any] = []
        for group in grouped(nodes):
            self.most, known = most, len(self.ranges)
            try:
                found.append(self.group(group))
            except (Unsupported, RecursionError, IndexError, UnicodeError):
                for key in list(self.ranges)[known:]:
                    del self.ranges[key]  # its node is gone, and another one may get the identity
                found += self._read_whole(group)
        return tuple(found)

    def _read_whole(self, nodes: Sequence[ast.stmt]) -> Sequence[Any]:
        """Statements as LibCST reads them; none where it does not."""
        start, end = self.starts[first_line(nodes[0]) - 1], self.end_of_line(nodes[-1])
        opening = _OPENING if self.text[start] in " \t\f" else ""
        text = opening + self.text[start:end]
        try:
            module = cst.parse_module(text)
            found = positions(module, start - len(opening), module.default_indent, module.default_newline)
        except (cst.ParserSyntaxError, cst.CSTValidationError, RecursionError, UnicodeEncodeError):
            return ()
        self._kept.append(module)
        self.ranges |= found.ranges
        for node in found.nodes:
            if isinstance(node, cst.FunctionDef):
                line = self.text.count("\n", 0, self.ranges[id(node.name)][0]) + 1
                self._note(node, self._by_line.get(line))
        first = module.body[0]
        return first.body.body if opening and isinstance(first, cst.If) else module.body

    def inside(self, nodes: Sequence[ast.stmt]) -> Sequence[Any]:
        self.behind = self._ending(nodes)
        return _Deferred(partial(self.apart, nodes, self.most))

    def _ending(self, nodes: Sequence[ast.stmt]) -> int:
        """Where the last of some statements ends, with the comments that belong to its last block."""
        inner = self._last_block(nodes[-1])
        if not inner:
            return self.end_of_line(nodes[-1])
        indent = self.indent(inner[0])
        if indent is None:
            return self.end_of_line(inner[-1])
        return behind_comments(self.text, self._ending(inner), indent, self.most)

    def _last_block(self, node: ast.stmt) -> Sequence[ast.stmt]:
        """The statements of the last block in a statement; none where it has no blocks."""
        if not is_compound(node):
            return ()
        while isinstance(node, ast.If) and (other := self.elif_of(node)) is not None:
            node = other
        inner: Any = next(filter(None, (getattr(node, name, ()) for name in _BLOCKS)), ())
        return inner[-1].body if inner and isinstance(inner[-1], ast.ExceptHandler) else inner

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Any:  # noqa: ANN401
        body = self._bodies.get(id(node))
        outer = self.most
        if body is not None:
            self.most = body.end - self._shift
        made = super().function(node)
        self.most = outer
        self._note(made, body)
        return made

    def _note(self, made: cst.FunctionDef, body: Body | None) -> None:
        if body is not None:
            self.left_out[id(made)] = body.size
