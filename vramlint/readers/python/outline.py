"""Which statements of a module bind which names, without building LibCST's tree of all of it.

CPython's own parser is some twenty times as fast as LibCST. It says where each top-level statement stands and what it
binds; of those statements only that are needed, `parts` then makes LibCST's nodes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from msgspec import Struct

from vramlint.readers.python.blocks import first_line
from vramlint.readers.python.source import syntax_tree
from vramlint.text import Document

STAR = "*"
"""What `from module import *` binds."""

_CHANGES_WORDS = "add append appendleft clear discard extend insert pop register remove setdefault update"
_CHANGES = frozenset(_CHANGES_WORDS.split())
"""Methods by which a module fills its tables at the top level."""

_TryStar: type[ast.Try] = getattr(ast, "TryStar", ast.Try)  # new in Python 3.11


class Body(Struct, frozen=True):
    """The body of a function or method: it is read when the function is called."""

    node: ast.FunctionDef | ast.AsyncFunctionDef
    start: int
    end: int
    size: int
    """How much there is to read: with the lines of the header."""


class Statement(Struct, frozen=True):
    """One or several top-level statements that share their lines."""

    nodes: tuple[ast.stmt, ...]
    start: int
    end: int
    names: tuple[str, ...]
    """The names that it binds, or whose objects it changes."""
    bodies: tuple[Body, ...]

    @property
    def size(self) -> int:
        """How much of it there is to read."""
        return self.end - self.start - sum(body.end - body.start for body in self.bodies)


@lru_cache(maxsize=64)
def outline(document: Document) -> tuple[Statement, ...]:
    """The top-level statements that bind something, in order; none for a text that CPython does not read."""
    tree = syntax_tree(document.text)
    if tree is None or "\r" in document.text.replace("\r\n", ""):  # a lone CR ends a line for CPython only
        return ()
    tables = _filled_by_decorators(tree.body)
    found: list[tuple[tuple[ast.stmt, ...], int, int, tuple[str, ...], tuple[Body, ...]]] = []
    for node in tree.body:
        nodes: tuple[ast.stmt, ...] = (node,)
        first, last = first_line(node), node.end_lineno or node.lineno
        names, bodies = tuple(dict.fromkeys(_bound((node,)))), tuple(_bodies((node,), document))
        names += tuple(table for root in _decorator_roots(node) for table in tables.get(root, ()))
        if found and found[-1][2] >= first:
            before = found.pop()
            nodes, first, names, bodies = (*before[0], node), before[1], (*before[3], *names), ()
        found.append((nodes, first, last, names, bodies))
    return tuple(
        Statement(nodes, document.offset(first, 1), _end_of_line(document, last), names, bodies)
        for nodes, first, last, names, bodies in found
        if names
    )


def _decorator_roots(node: ast.stmt) -> Iterator[str]:
    """`register` of `@register("name")`, `REGISTRY` of `@REGISTRY.register("name")`."""
    for decorator in getattr(node, "decorator_list", ()):
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        yield from _roots((target,))


def _filled_by_decorators(body: Sequence[ast.stmt]) -> dict[str, tuple[str, ...]]:
    """The top-level objects that decorators of a module fill, by the first name of the decorator."""
    assigned = {name for node in body if isinstance(node, (ast.Assign, ast.AnnAssign)) for name in _bound((node,))}
    tables: dict[str, tuple[str, ...]] = {name: (name,) for name in assigned}
    decorating = {root for node in body for root in _decorator_roots(node)}
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name in decorating:
            inner = [item for item in ast.walk(node) if isinstance(item, (ast.Assign, ast.Expr))]
            tables[node.name] = tuple(assigned.intersection(_bound(inner)))
    return tables


_SHORT = 200
"""Characters of a body below which it isn't worth reading it by itself."""


def _bodies(nodes: Iterable[ast.stmt], document: Document) -> Iterator[Body]:
    """The bodies of functions and methods, in order; those inside of others and short ones are read with the rest."""
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            yield from _bodies(node.body, document)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first, last = first_line(node.body[0]), node.end_lineno or node.lineno
            start, end = document.offset(first, 1), _end_of_line(document, last)
            header = document.line(first - 1).partition("#")[0].rstrip()
            if end - start >= _SHORT and first > node.lineno and header.endswith(":"):
                yield Body(node, start, end, end - document.offset(node.lineno, 1))


def _end_of_line(document: Document, line: int) -> int:
    return document.line_starts[line] if line < len(document.line_starts) else len(document.text)


def _bound(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The names that statements bind or change; nothing for what a module does when it is run as a program."""
    for node in nodes:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Import(names=names):
                yield from (item.asname or item.name.partition(".")[0] for item in names)
            case ast.ImportFrom(names=names):
                yield from (item.asname or item.name for item in names)
            case ast.Assign(targets=targets) | ast.Delete(targets=targets):
                yield from _roots(targets)
            case ast.AnnAssign(target=target, value=ast.expr()) | ast.AugAssign(target=target):
                yield from _roots((target,))
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=target, attr=method))) if method in _CHANGES:
                yield from _roots((target,))
            case ast.Expr(value=ast.Call(func=ast.Name(id="setattr"), args=[target, *_])):
                yield from _roots((target,))
            case ast.If():
                if not _is_main_guard(node.test):
                    yield from _bound((*node.body, *node.orelse))
            case ast.For(target=target, body=body, orelse=other) | ast.AsyncFor(target=target, body=body, orelse=other):
                yield from _roots((target,))
                yield from _bound((*body, *other))
            case ast.While(body=body, orelse=other):
                yield from _bound((*body, *other))
            case ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body):
                yield from _roots(item.optional_vars for item in items if item.optional_vars)
                yield from _bound(body)
            case ast.Match(cases=cases):
                yield from _bound(line for case in cases for line in case.body)
            case ast.Try() | _TryStar():
                handlers = (line for handler in node.handlers for line in handler.body)
                yield from _bound((*node.body, *handlers, *node.orelse, *node.finalbody))


def _roots(targets: Iterable[ast.AST]) -> Iterator[str]:
    """The names at the root of assignment targets: `a`, `a.b`, `a["b"]`, `(a, b)`."""
    for target in targets:
        match target:
            case ast.Name(id=name):
                yield name
            case ast.Attribute(value=inner) | ast.Subscript(value=inner) | ast.Starred(value=inner):
                yield from _roots((inner,))
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                yield from _roots(elements)


def _is_main_guard(test: ast.expr) -> bool:
    names = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
    return "__name__" in names
