"""Setting keywords of Python calls and options of command lines in the file's own style.

Every function gives the edit, or None where the text is not of a form in which a key can be set with certainty.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from vramlint import syntax
from vramlint.patterns import lazy
from vramlint.surfaces.literals import PYTHON, SHELL, literal
from vramlint.surfaces.python_values import Part, set_value
from vramlint.surfaces.spelling import Written
from vramlint.text import Document, Edit, Place, Span

if TYPE_CHECKING:
    import ast
    from tokenize import TokenInfo

_OPENED, _CLOSED = frozenset("([{"), frozenset(")]}")
_NOT_CODE = ("COMMENT", "NL", "NEWLINE", "INDENT", "DEDENT", "ENDMARKER")
_OPENING = lazy(r"[\w.]+\s*\(")
_CONTINUED = lazy(r"[ \t]*\\\r?$")
_OPTION_INDENT = lazy(r"[ \t]+(?=--)")


def set_keyword(document: Document, call: Place, name: str, value: Written) -> Edit | None:
    """The edit by which a call has the keyword `name`; dots lead into dictionaries that are written in it.

    Args:
        document: the file.
        call: from the callee's name to the closing bracket.
        name: of the keyword: `optim`, `gradient_checkpointing_kwargs.use_reentrant`.
        value: what it is to hold.
    """
    text = document.slice(call.span)
    node = _tree(text)
    if node is None:
        return None
    head, *rest = name.split(".")
    given = next((keyword.value for keyword in node.keywords if keyword.arg == head), None)
    if given is None:
        written = literal(value, PYTHON)
        for key in reversed(rest):
            written = f"{{{literal(key, PYTHON)}: {written}}}"
        return keyword(document, call, head, written)
    return set_value(document, Part(text, document.offset(call.span.line, call.span.column)), given, rest, value)


def has_keyword(document: Document, call: Place, name: str) -> bool:
    """Whether a call is given a keyword."""
    node = _tree(document.slice(call.span))
    return node is not None and any(keyword.arg == name for keyword in node.keywords)


def _tree(text: str) -> ast.Call | None:
    import ast

    node = syntax.term(text)
    return node if isinstance(node, ast.Call) else None


def keyword(document: Document, call: Place, name: str, written: str) -> Edit | None:
    """Insert `name=written` after the last argument of the call at `call`.

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
    newline = document.line_end(call.span.line)
    said = f"{name}={written}"
    own_line = line > 1 and text[end:].lstrip(" \t").startswith(("\n", "\r", "#", ",")) and "\n" in text[end:]
    if end == text.index("(") + 1:
        insertion = said
    elif own_line:
        # not the last argument's own line, which may be the middle of a dict or list
        indent = _indentation(text)
        insertion = f"{'' if comma else ','}{newline}{indent}{said}{',' if comma else ''}"
    else:
        insertion = f"{'' if comma else ','} {said}"
    place = document.span(start + end, start + end)
    return Edit(Place(document.path, place), insertion)


def calls(document: Document, callee: re.Pattern[str]) -> tuple[Place, ...]:
    """The calls in a Python file whose dotted callee matches, in order; none in a broken file."""
    return tuple([place for named, place in _named_calls(document) if callee.search(named)])


@lru_cache(maxsize=16)  # each change of a plan looks for the calls that take its keys
def _named_calls(document: Document) -> tuple[tuple[str, Place], ...]:
    """All calls of dotted names in a Python file with their names, in order."""
    import tokenize  # only a fix pays for it

    if document.cells:
        from vramlint.readers.notebook import read_script

        document = read_script(document).program
    text = document.text.removeprefix("\ufeff")
    mark = len(document.text) - len(text)
    try:
        tokens = [
            token
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if tokenize.tok_name[token.type] not in _NOT_CODE
        ]
    except (tokenize.TokenError, SyntaxError):
        return ()
    found: dict[int, tuple[str, Place]] = {}
    open_brackets: list[int] = []
    for index, token in enumerate(tokens):
        if token.string in _OPENED:
            open_brackets.append(index)
        elif token.string in _CLOSED and open_brackets:
            opening = open_brackets.pop()
            first = _callee(tokens, opening)
            if first is not None:
                (line, column), (end_line, end_column) = tokens[first].start, token.end
                shift, end_shift = mark * (line == 1), mark * (end_line == 1)
                span = Span(line, column + 1 + shift, end_line, end_column + 1 + end_shift)
                named = "".join([item.string for item in tokens[first:opening]])
                found[opening] = named, Place(document.path, span)
    return tuple([found[opening] for opening in sorted(found)])


def _callee(tokens: Sequence[TokenInfo], opening: int) -> int | None:
    """Index of the first token of the dotted name that is called by the bracket at index `opening`."""
    import tokenize

    first = opening - 1
    if first < 0 or tokens[opening].string != "(" or tokens[first].type != tokenize.NAME:
        return None
    while first > 1 and tokens[first - 1].string == "." and tokens[first - 2].type == tokenize.NAME:
        first -= 2
    return None if first and tokens[first - 1].string in ("class", "def", ".") else first


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


def option(document: Document, beside: Place, name: str, value: Written) -> Edit | None:
    """Insert `--name value` behind another option's value, in its manner: `--name=value`, dashes, a line of its own.

    Args:
        document: the launcher.
        beside: the value of another option of the same command, as it is written in it.
        name: of the option, with underscores.
        value: what it is to hold; None: it is a switch.
    """
    span = beside.span
    line = document.line(span.line)
    if span.line != span.end_line or not document.slice(span).strip():
        return None
    before, behind = line[: span.column - 1], line[span.end_column - 1 :]
    quoted = before[-1:] in ("'", '"') and before[-1:] == behind[:1]
    if quoted:
        before, behind = before[:-1], behind[1:]
    if behind[:1] in ("'", '"') or (behind[:1] and behind[0] not in " \t;|&)"):
        return None
    other = re.search(r"--([\w-]+)(?:=|[ \t]+)?$", before)
    spelling = name.replace("_", "-") if other is not None and "-" in other[1] else name
    gap = "=" if before.endswith("=") and not isinstance(value, tuple) else " "
    said = f"--{spelling}{gap}{literal(value, SHELL)}" if value is not None else f"--{spelling}"
    indent = _OPTION_INDENT.match(line)
    if _CONTINUED.fullmatch(behind) and indent:
        said = f"{behind.rstrip()}{document.line_end(span.line)}{indent[0]}{said}"
    else:
        said = f" {said}"
    end = document.offset(span.end_line, span.end_column) + quoted
    return Edit(Place(document.path, document.span(end, end)), said)
