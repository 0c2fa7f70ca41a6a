"""The Python of a notebook: its cells with all else made harmless, every line in its place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from keyword import iskeyword
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from vramlint import syntax
from vramlint.patterns import lazy
from vramlint.readers.notebook.escapes import Escape, escapes
from vramlint.readers.notebook.magics import Role, role
from vramlint.text import Document, Place
from vramlint.values import Problem


class Escaped(NamedTuple):
    """An escape with what it does."""

    role: Role
    escape: Escape


class Statement(Struct, frozen=True):
    """A statement at the outermost level of a cell."""

    node: ast.stmt
    shift: int
    """How many lines of the document stand above those that the node counts."""


class Script(Struct, frozen=True):
    """The Python of a document."""

    program: Document
    """As long as the document in lines, and each line of Python that it has as long as there."""
    escaped: tuple[Escaped, ...]
    """What was taken out, in order."""
    statements: tuple[Statement, ...]
    """Those of the cells that the running Python reads."""
    problems: tuple[Problem, ...]
    """Cells that are no Python."""
    margin: re.Pattern[str] | None = None
    """What makes a comment of each line of an escape, in scripts that have them so."""


def read_script(document: Document) -> Script:
    """The Python of a notebook's document. Never raises on any text."""
    lines: list[str] = []
    found: list[Escaped] = []
    statements: list[Statement] = []
    problems: list[Problem] = []
    for start, end in _stretches(document):
        made = list(_escaped(document.text, start, end))
        found += made
        first = document.position(start)[0]
        text = _harmless(document.text, start, end, made)
        cell = _read_cell(document.path, text, first)
        if isinstance(cell, _ReadCell):
            statements += (Statement(node, cell.shift) for node in cell.body)
            if cell.is_indented:
                lines[-1] = _ABOVE
        else:
            problems += (cell,) if cell else ()
            text = _blank(text)
        lines += text.removesuffix("\n").split("\n")
    program = Document.of(document.path, "".join(f"{line}\n" for line in lines), document.cells)
    return Script(program, tuple(found), tuple(statements), tuple(problems))


_ABOVE = "if 1:"
"""Stands in the empty line above a cell that is indented as a whole, as IPython allows."""


def _stretches(document: Document) -> Iterator[tuple[int, int]]:
    """Where the cells of a document start and end."""
    if not document.cells:  # a script with magics is one cell
        yield from [(0, len(document.text))] if document.text else []
        return
    starts = [document.line_starts[cell.first_line - 1] for cell in document.cells]
    yield from zip(starts, [*starts[1:], len(document.text)], strict=False)


def _escaped(text: str, start: int, end: int) -> Iterator[Escaped]:
    """The escapes of a cell, and those in the body of a cell magic that runs Python."""
    for escape in escapes(text, start, end):
        what = role(escape, text)
        inner = list(_escaped(text, *escape.body)) if escape.body and what in (Role.PYTHON, Role.PERHAPS) else []
        if what is Role.PERHAPS:
            body = _harmless(text, *(escape.body or (end, end)), inner)
            what = Role.PYTHON if syntax.tree(body) is not None else Role.OTHER
        yield Escaped(what, escape)
        if what is Role.PYTHON:
            yield from inner


def _harmless(text: str, start: int, end: int, found: list[Escaped]) -> str:
    """A cell with its escapes replaced by Python that does nothing, line by line of the same length."""
    pieces: list[str] = []
    for what, escape in found:
        pieces.append(text[start : escape.start])
        start = escape.end
        if what is Role.PYTHON and escape.body:
            start = escape.body[0]
            pieces.append(_blank(text[escape.start : start]))
        elif what is Role.PYTHON and _runs_statement(text, escape):
            start = escape.arguments[0]
            pieces.append(_instead(escape, text[escape.start : start]))
        elif escape.body:
            pieces.append(_blank(text[escape.start : start]))
        else:
            pieces.append(_stand_in(escape, text[escape.start : start]))
    return "".join((*pieces, text[start:end]))


def _stand_in(escape: Escape, text: str) -> str:
    """A statement for a block that has no other, a value for an assignment."""
    return ("_" if escape.is_value else "0") + _blank(text[1:])


def _instead(escape: Escape, name: str) -> str:
    """What stands for `%time` before the statement that it measures: the statement must not look indented."""
    return _blank(name) if escape.is_value else f"0;{_blank(name[2:])}"


def _runs_statement(text: str, escape: Escape) -> bool:
    """Whether a line magic has nothing but a simple statement behind it; options come before it otherwise."""
    return syntax.tree(f"0;{text[slice(*escape.arguments)]}") is not None


def _blank(text: str) -> str:
    return "\n".join(" " * len(line) for line in text.split("\n"))


class _ReadCell(Struct, frozen=True):
    body: list[ast.stmt]
    shift: int
    is_indented: bool = False


def _read_cell(path: str, text: str, first: int) -> _ReadCell | Problem | None:
    """The statements of one cell, or what is wrong with it; None where it is no Python and not meant to be."""
    module = syntax.tree(text)
    if module is not None:
        return _ReadCell(module.body if _LONE_RETURN.search(text) is None else [], first - 1)
    if first > 1 and text.lstrip("\r\n")[:1] in (" ", "\t"):
        wrapped = syntax.tree(f"{_ABOVE}\n{text}")
        if wrapped is not None and isinstance(wrapped.body[0], ast.If):
            return _ReadCell(wrapped.body[0].body + wrapped.body[1:], first - 2, is_indented=True)
    from vramlint.readers.python.source import parse

    # Python's grammar may be newer than the Python that runs here
    _, problem = parse(Document.of(path, text))
    if problem is None:
        return _ReadCell([], first - 1)
    span = problem.place.span
    place = Place(path, span._replace(line=span.line + first - 1, end_line=span.end_line + first - 1))
    return None if _is_typed(text) else replace(problem, place=place)


_LONE_RETURN = lazy(r"\r(?!\n)")
"""Ends a line for Python, and none for a document."""

_JOINED = lazy(r"\\[ \t]*\r?\n")
_COMMAND = lazy(r"(?P<word>[a-z][\w./-]*)[ \t]+[\w./~$'\"-]")


def _is_typed(text: str) -> bool:
    """Whether all of a cell is typed as in a shell: IPython runs some such lines (`pip install peft`)."""
    lines = [line for line in _JOINED.sub(" ", text).split("\n") if line.strip() and not line.startswith("#")]
    matches = [_COMMAND.match(line) for line in lines]
    # `print "x"` is Python 2
    return all(match and not iskeyword(match["word"]) and match["word"] != "print" for match in matches)
