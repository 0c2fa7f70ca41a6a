"""Statements of a program, and lines behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from vramlint import syntax
from vramlint.surfaces.python_values import Part
from vramlint.text import Document, Edit, Place

if TYPE_CHECKING:
    import ast


class Statement(Struct, frozen=True):
    """A statement that gives a value a name."""

    name: str
    end: int
    """The offset at which its last line ends, comments included."""
    indent: str


def module_of(document: Document) -> ast.Module | None:
    """The syntax tree of a program; None of a notebook, and where there is none."""
    return None if document.cells or document.text.startswith("\ufeff") else syntax.tree(document.text)


def loaded_by(document: Document, call: Place) -> Statement | None:
    """The statement `name = call(...)` on lines of its own, whose call stands at a place."""
    import ast

    module = module_of(document)
    part = Part(document.text, 0)
    span = (document.offset(*call.span[:2]), document.offset(*call.span[2:]))
    for node in ast.walk(module) if module is not None else ():
        if not isinstance(node, ast.Assign) or len(node.targets) != 1 or not isinstance(node.targets[0], ast.Name):
            continue
        if not isinstance(node.value, ast.Call) or part.span(node.value) != span:
            continue
        name = node.targets[0].id
        row, column = document.position(span[1])
        line, first = document.line(row), document.line(node.lineno)
        rest = line[column - 1 :].strip()
        indent = first[: len(first) - len(first.lstrip())]
        if (rest and not rest.startswith("#")) or not first.startswith(f"{indent}{name}"):
            return None
        return Statement(name, document.offset(row, 1) + len(line), indent)
    return None


def behind(document: Document, statement: Statement, rows: Sequence[str]) -> Edit:
    """Lines behind a statement, indented as it is."""
    newline = document.line_end(document.position(statement.end)[0])
    text = "".join(f"{newline}{statement.indent}{row}" for row in rows)
    return Edit(Place(document.path, document.span(statement.end, statement.end)), text)
