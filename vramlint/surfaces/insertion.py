"""Adding an absent key in the file's own style: a keyword of a call, a member of a JSON object, a line of YAML.

Every function gives the edit, or None where the text is not of a form in which a key can be added with certainty.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vramlint.text import Document, Edit, Place, Span

if TYPE_CHECKING:
    from tokenize import TokenInfo

_NOT_CODE = ("COMMENT", "NL", "NEWLINE", "INDENT", "DEDENT", "ENDMARKER")
_OPENING = re.compile(r"[\w.]+\s*\(")


def keyword(document: Document, call: Place, name: str, literal: str) -> Edit | None:
    """Insert `name=literal` after the last argument of the call at `call`.

    A call whose arguments stand on lines of their own gets a new line with the same indentation; a trailing comma
    is kept where there was one.
    """
    text = document.slice(call.span)
    if not _OPENING.match(text) or not text.endswith(")"):
        return None
    last = _last_argument(text)
    if last is None:
        return None
    end, comma, line = last
    start = document.offset(call.span.line, call.span.column)
    newline = _line_end(document)
    written = f"{name}={literal}"
    own_line = line > 1 and text[end:].lstrip(" \t").startswith(("\n", "\r", "#", ",")) and "\n" in text[end:]
    if end == text.index("(") + 1:
        insertion = written
    elif own_line:
        # not the last argument's own line, which may be the middle of a dict or list
        indent = _indentation(text)
        insertion = f"{'' if comma else ','}{newline}{indent}{written}{',' if comma else ''}"
    else:
        insertion = f"{'' if comma else ','} {written}"
    place = document.span(start + end, start + end)
    return Edit(Place(document.path, place), insertion)


def calls(document: Document, endings: tuple[str, ...]) -> tuple[Place, ...]:
    """The calls in a Python file whose callee's name has one of these endings, in order; none in a broken file."""
    import tokenize  # only a fix pays for it

    if document.cells:
        from vramlint.readers.notebook import read_script

        document = read_script(document).program
    try:
        tokens = [
            token
            for token in tokenize.generate_tokens(io.StringIO(document.text).readline)
            if tokenize.tok_name[token.type] not in _NOT_CODE
        ]
    except (tokenize.TokenError, SyntaxError):
        return ()
    found = []
    for index, token in enumerate(tokens[:-1]):
        made = index == 0 or tokens[index - 1].string not in ("class", "def")
        if token.string.endswith(endings) and tokens[index + 1].string == "(" and made:
            end = _closing(tokens, index + 1)
            if end is not None:
                (line, column), (end_line, end_column) = token.start, tokens[end].end
                found.append(Place(document.path, Span(line, column + 1, end_line, end_column + 1)))
    return tuple(found)


def _closing(tokens: Sequence[TokenInfo], opening: int) -> int | None:
    """Index of the bracket that closes the one at index `opening`."""
    depth = 0
    for index in range(opening, len(tokens)):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(tokens[index].string, 0)
        if depth == 0:
            return index
    return None


def _last_argument(text: str) -> tuple[int, bool, int] | None:
    """(offset after the last argument or its comma, whether a comma ends it, its line) of the call's text."""
    import tokenize  # only a fix pays for it

    starts = [0]
    for row in text.split("\n"):
        starts.append(starts[-1] + len(row) + 1)
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return None
    code = [token for token in tokens if tokenize.tok_name[token.type] not in _NOT_CODE]
    if len(code) < 2 or code[-1].string != ")":
        return None
    last = code[-2]
    return starts[last.end[0] - 1] + last.end[1], last.string == ",", last.end[0]


def _indentation(text: str) -> str:
    """The white space before the first argument that begins a line."""
    for row in text.split("\n")[1:]:
        stripped = row.lstrip(" \t")
        if stripped and not stripped.startswith("#"):
            return row[: len(row) - len(stripped)]
    return "    "


def member(document: Document, last_value: Place, name: str, literal: str) -> Edit:
    """Insert `"name": literal` after the JSON member whose value is at `last_value`."""
    line = document.line(last_value.span.line)
    indent = line[: len(line) - len(line.lstrip(" \t"))]
    key_begins_line = line.lstrip(" \t").startswith('"')
    separator = f",{_line_end(document)}{indent}" if key_begins_line else ", "
    span = Span(
        last_value.span.end_line, last_value.span.end_column, last_value.span.end_line, last_value.span.end_column
    )
    return Edit(Place(document.path, span), f'{separator}"{name}": {literal}')


def line_before(document: Document, member: Place, name: str, literal: str) -> Edit:
    """Insert the YAML line `name: literal` before the line on which `member`, a top-level key or its value, begins."""
    line = document.line(member.span.line)
    indent = line[: len(line) - len(line.lstrip(" "))]
    span = Span(member.span.line, 1, member.span.line, 1)
    return Edit(Place(document.path, span), f"{indent}{name}: {literal}{_line_end(document)}")


def _line_end(document: Document) -> str:
    return "\r\n" if "\r\n" in document.text else "\n"
