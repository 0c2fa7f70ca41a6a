"""Reads JSON with exact places: strict JSON first, then the dialect that DeepSpeed's own parser takes."""

from __future__ import annotations

import re

from vramlint.patterns import lazy
from vramlint.readers.json_scalars import number, unescape
from vramlint.readers.tree import ReadError, TreeBuilder
from vramlint.text import Document, Place
from vramlint.values import Plain, Problem, Reading, Table

_TOKEN = lazy(
    r"""[ \t\n\r]*(?:
      "(?P<string>[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*)"
    | (?P<number>-?(?:0|[1-9][0-9]*)(?P<real>(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?))
    | (?P<mark>[{}\[\],:])
    | (?P<word>true|false|null|NaN|-?Infinity)
    )""",
    re.VERBOSE,
)
_STRING, _NUMBER, _REAL, _MARK, _WORD = 1, 2, 3, 4, 5
_SPACE = lazy(r"[ \t\n\r]*")
_RUN = lazy(r"[A-Za-z0-9_.+-]+")

WORDS: dict[str, Plain] = {
    "true": True,
    "false": False,
    "null": None,
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
}
"""The literals that Python's `json` module takes, the last three beyond the standard."""

_EXTENSIONS = {
    "#": "a `#` comment",
    "/": "a comment",
    "'": "single quotes",
    "}": "a trailing comma",
    "]": "a trailing comma",
}
"""What hjson reads there, by the character at which strict JSON stops."""

_OMISSIONS = {
    "expected a key": "a key without quotes",
    "expected a value": "a string without quotes",
    "expected `,`": "a missing comma",
}
"""The same by the beginning of strict JSON's complaint."""


def read_json(document: Document) -> Reading:
    """The tree of a JSON document.

    Strict JSON (with the NaN and Infinity of Python's `json` module) is tried first. Text that only hjson takes
    (DeepSpeed reads its config file with `hjson.load`) still gives a tree, together with a `json-extension`
    problem at the first such place, unless it is a template: `json.load`, with which Hugging Face Accelerate 1.15
    (accelerate/utils/deepspeed.py, HfDeepSpeedConfig) reads the same file, rejects it. A lone surrogate escape
    reads as U+FFFD, for it could not be printed.
    """
    if isinstance(document.tree, Table):
        return Reading(document.tree)
    try:
        return _read_strict(document)
    except ReadError as fault:
        strict = fault
    if not document.text.strip("\ufeff \t\n\r"):
        return Reading(None, (Problem("empty-file", "the file holds no value", _start(document)),))
    from vramlint.readers.hjson import PLACEHOLDER, read_hjson

    try:
        reading = read_hjson(document)
    except ReadError as fault:
        return Reading(None, (_clearer(document, strict, fault).problem(document),))
    template = PLACEHOLDER.match(document.text, strict.start) is not None  # nobody reads it as it stands
    return Reading(reading.root, (*(() if template else (_extension(document, strict),)), *reading.problems))


def _start(document: Document) -> Place:
    return Place(document.path, document.span(0, 0))


def _clearer(document: Document, strict: ReadError, lenient: ReadError) -> ReadError:
    """Of two syntax errors the one that names the mistake: strict's, unless it only stumbled over an extension."""
    at = document.text[strict.start : strict.start + 1]
    return lenient if at in _EXTENSIONS and lenient.start >= strict.start else strict


def _extension(document: Document, strict: ReadError) -> Problem:
    at = document.text[strict.start : strict.start + 1]
    omitted = (what for beginning, what in _OMISSIONS.items() if strict.message.startswith(beginning))
    what = _EXTENSIONS.get(at) or next(omitted, "syntax beyond JSON")
    message = f"{what}: DeepSpeed's own parser takes it, `json.load` (Hugging Face Accelerate and Trainer) does not"
    return Problem("json-extension", message, strict.problem(document).place)


def _read_strict(document: Document) -> Reading:
    """Reads one JSON value; raises a fault where the text is not strict JSON."""
    builder = TreeBuilder(document)
    position = 1 if document.text.startswith("\ufeff") else 0
    position = _value(document, builder, position)
    while builder.depth:
        position = _after_value(document, builder, position)
    rest = _SPACE.match(document.text, position)
    end = rest.end() if rest else position
    if end < len(document.text):
        raise ReadError("expected the end of the file after the value", end)
    return Reading(builder.root, tuple(builder.problems))


def _value(document: Document, builder: TreeBuilder, position: int) -> int:
    """Reads a value, or only the start of a non-empty container; gives the offset behind what was read."""
    text = document.text
    while True:
        token = _TOKEN.match(text, position)
        if token is None:
            raise _unexpected(document, builder, position, "a value")
        kind = token.lastindex
        end = token.end()
        if kind == _STRING:
            start = token.start(_STRING)
            builder.scalar(unescape(token[_STRING], start), start - 1, end)
        elif kind in (_NUMBER, _REAL):
            start = token.start(_NUMBER)
            builder.scalar(number(token[_NUMBER], token[_REAL] != "", start), start, end)
        elif kind == _WORD:
            builder.scalar(WORDS[token[_WORD]], token.start(_WORD), end)
        else:
            mark = token[_MARK]
            if mark not in "{[":
                raise ReadError("expected a value", end - 1)
            builder.open(mark == "{", end - 1)
            closing = _closing(text, end, "}" if mark == "{" else "]")
            if closing is None:
                position = _key(document, builder, end) if mark == "{" else end
                continue
            builder.close(closing)
            return closing
        return end


def _closing(text: str, position: int, bracket: str) -> int | None:
    """The offset behind `bracket` when it comes next."""
    space = _SPACE.match(text, position)
    at = space.end() if space else position
    return at + 1 if text.startswith(bracket, at) else None


def _key(document: Document, builder: TreeBuilder, position: int) -> int:
    """Reads `"key":`."""
    token = _TOKEN.match(document.text, position)
    if token is None or token.lastindex != _STRING:
        raise _unexpected(document, builder, position, "a key in double quotes")
    start, end = token.start(_STRING), token.end()
    builder.key(unescape(token[_STRING], start), start - 1, end)
    colon = _TOKEN.match(document.text, end)
    if colon is None or colon[_MARK] != ":":
        raise _unexpected(document, builder, end, "`:` after the key")
    return colon.end()


def _after_value(document: Document, builder: TreeBuilder, position: int) -> int:
    """Reads the closing bracket, or the comma and the next member."""
    token = _TOKEN.match(document.text, position)
    mark = token[_MARK] if token else None
    bracket = "}" if builder.in_table else "]"
    if token is None or mark not in (",", bracket):
        raise _unexpected(document, builder, position, f"`,` or `{bracket}`")
    if mark == bracket:
        builder.close(token.end())
        return token.end()
    position = token.end()
    if builder.in_table:
        position = _key(document, builder, position)
    return _value(document, builder, position)


def _unexpected(document: Document, builder: TreeBuilder, position: int, expected: str) -> ReadError:
    """The fault at the first token that starts at or behind `position`."""
    text = document.text
    space = _SPACE.match(text, position)
    at = space.end() if space else position
    if at >= len(text):
        where = ""
        if builder.depth:
            line, _ = document.position(builder.opened_at)
            where = f": the `{text[builder.opened_at]}` of line {line} is not closed"
        return ReadError(f"unexpected end of the file, expected {expected}{where}", len(text), len(text))
    if text[at] == '"' and (expected == "a value" or "key in" in expected):
        return _bad_string(document, at)
    run = _RUN.match(text, at)
    return ReadError(f"expected {expected}", at, run.end() if run else at + 1)


def _bad_string(document: Document, at: int) -> ReadError:
    """Why the text that starts with a double quote at `at` is no string."""
    body = re.compile(r'[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*').match(document.text, at + 1)
    end = body.end() if body else at + 1
    if document.text[end : end + 1] == "\t":
        return ReadError("a tab inside a string must be written `\\t`", end)
    return ReadError("the string is not closed on its line", at, end)
