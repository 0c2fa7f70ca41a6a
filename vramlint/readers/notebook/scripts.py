"""Scripts with cells: jupytext and Databricks write magics as comments, VS Code takes them as they are."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from vramlint import syntax
from vramlint.patterns import lazy
from vramlint.readers.notebook.escapes import Escape, cell_magic, line_escape
from vramlint.readers.notebook.magics import Role, role
from vramlint.readers.notebook.program import Escaped, Script, Statement, read_script
from vramlint.text import Document

_DATABRICKS = lazy(r"\A\ufeff?# Databricks notebook source\b")
_JUPYTEXT = lazy(r"\A(?:\ufeff|#!.*\n|# -\*-.*\n)*# ---[ \t]*\r?\n(?:#.*\n){0,9}?#[ \t]+jupytext:")
"""The header that jupytext writes above a script. Without it a commented command may be one that was put away."""
_CELL = lazy(r"(?m)^# ?(?:%%(?=[ \t\r\n])|In\[[ \d]*\]:)")
"""How cells begin in VS Code, PyCharm, Spyder and jupytext, and in what nbconvert exports."""

_MAGIC = lazy(r"(?m)^# MAGIC ?(?P<magic>[%!].*(?:\n# MAGIC.*)*)")
_COMMENTED = lazy(
    r"(?m)^[ \t]*# (?:(?P<cell>%%\w.*(?:\n#(?! %%| \+).*)*)|(?P<line>(?:!|%(?!%))\S.*(?:(?<=\\)\n[ \t]*#.*)*))"
    r"|^# (?:%%|\+).*\blanguage=\"(?P<language>bash|sh)\".*\n(?P<body>(?:#(?! %%| \+).*\n?)*)"
)
_MAGIC_MARGIN = lazy(r"# MAGIC ?")
_MARGIN = lazy(r"[ \t]*# ?")


def has_cells(text: str) -> bool:
    """Whether a Python file's text is that of a notebook with commands in it."""
    return bool(_DATABRICKS.match(text) or _JUPYTEXT.match(text) or _CELL.search(text))


def read_cells_of_script(document: Document) -> Script:
    """A script with cells. Its Python is the script itself where its magics are comments."""
    found = _databricks if _DATABRICKS.match(document.text) else _jupytext if _JUPYTEXT.match(document.text) else None
    if found is None:
        return _plain(document)
    escaped = tuple(Escaped(role(escape, document.text), escape) for escape in found(document.text))
    tree = syntax.tree(document.text.removeprefix("\ufeff"))
    margin = _MAGIC_MARGIN if found is _databricks else _MARGIN
    return Script(document, escaped, _statements(document, tree), (), margin)


def _plain(document: Document) -> Script:
    """Magics that are no comments make it no Python file, which then is read as a notebook's cells are."""
    tree = syntax.tree(document.text.removeprefix("\ufeff"))
    if tree is not None:
        return Script(document, (), _statements(document, tree), ())
    script = read_script(document)
    return script if script.escaped and not script.problems else Script(document, (), (), ())


def _statements(document: Document, tree: ast.Module | None) -> tuple[Statement, ...]:
    # a lone carriage return ends a line for Python only
    return tuple(Statement(node, 0) for node in tree.body) if tree and "\r" not in document.text else ()


def _databricks(text: str) -> Iterator[Escape]:
    for match in _MAGIC.finditer(text):
        start, end = match.span("magic")
        yield line_escape(text, start, end) if text[start] == "!" else _either(text, start, end)


def _either(text: str, start: int, end: int) -> Escape:
    """`%sh` takes the lines below and what stands behind it; `%pip`, `%run` their own line."""
    escape = cell_magic(text, start, end)
    if role(escape, text) is Role.SHELL:
        return escape._replace(body=(escape.arguments[0], end))
    return line_escape(text, start, end)


def _jupytext(text: str) -> Iterator[Escape]:
    for match in _COMMENTED.finditer(text):
        if match["line"] is not None:
            start, end = match.span("line")
            yield line_escape(text, start, end)
        elif match["cell"] is not None:
            start, end = match.span("cell")
            yield cell_magic(text, start, end)
        else:
            start, end = match.span("body")
            yield Escape(match.start(), end, f"%%{match['language']}", (start, start), (start, end))
