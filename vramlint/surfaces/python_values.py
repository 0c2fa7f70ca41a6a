"""Values of Python programs changed where they are written: literals, and the items of dictionaries.

Every function gives the edit, or None where the text is not of a form in which it can be made with certainty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vramlint.patterns import lazy
from vramlint.surfaces.literals import PYTHON, literal
from vramlint.surfaces.spelling import Written
from vramlint.text import Document, Edit, Place

if TYPE_CHECKING:
    import ast

_BEHIND = lazy(r"[ \t]*(?P<comma>,?)(?:[ \t]*(?P<comment>#[^\r\n]*))?")
"""What stands behind a value on its line."""


class Part:
    """A stretch of a document that has a syntax tree of its own."""

    def __init__(self, text: str, start: int) -> None:
        self.text = text
        self.start = start
        self._lines = [0]
        for row in text.split("\n"):
            self._lines.append(self._lines[-1] + len(row) + 1)

    def offset(self, line: int, column: int) -> int:
        """Index into the document of a position of the tree, whose columns count bytes of UTF-8."""
        begin = self._lines[line - 1]
        row = self.text[begin : self._lines[line] - 1]
        return self.start + begin + len(row.encode()[:column].decode(errors="ignore"))

    def span(self, node: ast.expr) -> tuple[int, int]:
        """Where an expression begins and ends in the document."""
        end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
        return self.offset(node.lineno, node.col_offset), self.offset(end_line, end_column)


def set_value(document: Document, part: Part, given: ast.expr, path: Sequence[str], value: Written) -> Edit | None:
    """The edit by which an expression, or what a dictionary has under a path, is a value.

    Args:
        document: the file.
        part: the stretch of it that the expression is of.
        given: the expression.
        path: keys that lead into dictionaries that are written there.
        value: what it is to hold.
    """
    import ast

    start, end = part.span(given)
    if not path:
        old = document.text[start:end]
        constant = isinstance(given, ast.Constant) or old.startswith(("[", "torch."))
        place = Place(document.path, document.span(start, end))
        return Edit(place, literal(value, PYTHON, old)) if constant and "\n" not in old else None
    if not isinstance(given, ast.Dict):
        return None
    for key, inner in zip(given.keys, given.values, strict=True):
        if isinstance(key, ast.Constant) and key.value == path[0]:
            return set_value(document, part, inner, path[1:], value)
    return _added(document, part, given, path, value)


def _added(document: Document, part: Part, given: ast.Dict, path: Sequence[str], value: Written) -> Edit | None:
    """A new item behind the last one of a dictionary, on a line of its own where that has one."""
    named = [key for key in given.keys if key is not None]
    quote = document.text[part.span(named[-1])[0]] if named else '"'
    written = literal(value, PYTHON, quote)
    for name in reversed(path):
        written = f"{literal(name, PYTHON, quote)}: {written}"
        written = written if name == path[0] else f"{{{written}}}"
    if not given.values:
        at = part.span(given)[0] + 1
        return Edit(Place(document.path, document.span(at, at)), written)
    last = given.keys[-1]
    start, end = part.span(given.values[-1])
    start = part.span(last)[0] if last is not None else document.text.rindex("**", 0, start)
    behind = _BEHIND.match(document.text, end)
    line, column = document.position(start)
    indent = document.line(line)[: column - 1]
    if behind is None or not (behind["comma"] or document.text[behind.end() :].lstrip()[:1] in ("}", ",")):
        return None  # in brackets of its own, which the tree leaves out
    newline = document.line_end(line)
    if indent.strip():
        at, text = (behind.end("comma"), f" {written},") if behind["comma"] else (end, f", {written}")
    elif behind["comma"]:
        at, text = behind.end(), f"{newline}{indent}{written},"
    elif behind["comment"]:  # which stays with its own item
        at, text = start, f"{written},{newline}{indent}"
    else:
        at, text = end, f",{newline}{indent}{written}"
    return Edit(Place(document.path, document.span(at, at)), text)
