"""Finds comments, and the directives in them: `# vramlint: ignore[exceeds-gpu-memory] reason`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import MappingProxyType

from msgspec import Struct

from vramlint.patterns import lazy
from vramlint.sizes import parse_size
from vramlint.text import Document, Place
from vramlint.values import COMMENT, Entry, Problem, Scalar

MARKER = "vramlint:"

DECLARATIONS = MappingProxyType(
    {
        "gpu": str,
        "gpus-per-node": int,
        "nodes": int,
        "ram": bytes,
        "nvme": bytes,
        "model": str,
        "micro-batch-size": int,
        "micro-batch": int,
        "sequence-length": int,
        "seq-len": int,
    }
)
"""What a comment may declare about the file it stands in, with the type of the value; bytes are a size (`512GiB`)."""

_TAKES = {str: "a name", int: "a positive whole number", bytes: "a size such as 512GiB"}
_DIRECTIVE = lazy(r"(?:\#|//|/\*)[ \t]*vramlint:(?P<body>.*?)(?:\*/)?\Z", re.DOTALL)
_IGNORE = lazy(r"\s*(?P<kind>ignore-file|ignore)(?![\w-])\s*(?:\[(?P<names>[^\]]*)\])?(?P<reason>.*)", re.DOTALL)
_RULE = lazy(r"[^\s,]+")
_RULE_FORM = lazy(r"[A-Za-z][A-Za-z0-9-]*\Z")
_PAIR = lazy(r"(?P<key>[A-Za-z][\w-]*)\s*=\s*(?:\"(?P<quoted>[^\"]*)\"|(?P<bare>[^\s,\"]+))")
_BETWEEN = lazy(r"[\s,]*")
_HASH_OR_TOML_STRING = lazy(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")'
    r"|'''.*?'{3,5}(?!')"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|(?P<comment>\#[^\r\n]*)",
    re.DOTALL,
)
_SHELL_CELLS = ("%%bash", "%%sh", "%%shell", "%%script")
_HJSON_COMMENT = lazy(r"\#[^\r\n]*|//[^\r\n]*|/\*.*?\*/", re.DOTALL)


class Directive(Struct, frozen=True):
    """What one comment tells vramlint."""

    kind: str
    """ignore (one line), ignore-file, declare."""
    place: Place
    """From the comment mark before `vramlint:` to the end of the comment."""
    line: int | None
    """The line that an `ignore` is for: its own, or, when it stands alone, the next with content. Else None."""
    names: tuple[Scalar, ...] = ()
    """Rule codes or names as written, with their places. An `ignore-file` without brackets means every rule."""
    values: tuple[Entry, ...] = ()
    """What a `declare` says: keys of `DECLARATIONS` with scalars of their type."""
    reason: str = ""


def directives(document: Document, form: str) -> tuple[tuple[Directive, ...], tuple[Problem, ...]]:
    """All directives of a file and a `bad-directive` problem for each that isn't understood.

    `form` is python, notebook, json (hjson's comments), yaml, toml, shell, make or docker. Text inside strings is
    no comment. In a file with
    a syntax error only the comments before it count.
    """
    if MARKER not in document.text:
        return (), ()
    comments = tuple(_FORMS[form](document))
    found: list[Directive] = []
    problems: list[Problem] = []
    for start, end in comments:
        match = _DIRECTIVE.search(document.text, start, end)
        if match is not None:
            line = _target(document, start, end, comments)
            result = _parse(document, match, Place(document.path, document.span(match.start(), end)), line)
            if isinstance(result, Directive):
                found.append(result)
            else:
                problems.append(result)
    return tuple(found), tuple(problems)


def _python_comments(document: Document) -> Iterator[tuple[int, int]]:
    import io
    import tokenize

    lines = io.StringIO(document.text.removeprefix("\ufeff"), newline="\n").readline
    shift = len(document.text) - len(document.text.removeprefix("\ufeff"))
    try:
        for token in tokenize.generate_tokens(lines):
            if token.type == tokenize.COMMENT:
                line, column = token.start
                start = document.line_starts[line - 1] + column + (shift if line == 1 else 0)
                yield start, start + len(token.string.rstrip("\r"))
    except (tokenize.TokenError, SyntaxError):
        return


def _notebook_comments(document: Document) -> Iterator[tuple[int, int]]:
    """Comments of the Python in its cells, and of cells of shell commands."""
    from vramlint.readers.notebook import read_script

    script = read_script(document)
    program = script.program
    for start, end in _python_comments(program):
        line, column = program.position(start)
        begin = document.offset(line, column)
        yield begin, begin + end - start
    for _, escape in script.escaped:
        if escape.name in _SHELL_CELLS and escape.body:
            yield from _hashes(document.text, *escape.body)


def _json_comments(document: Document) -> Iterator[tuple[int, int]]:
    from vramlint.readers.hjson import gaps

    for start, end in gaps(document):
        for match in _HJSON_COMMENT.finditer(document.text, start, end):
            yield match.span()


def _yaml_comments(document: Document) -> Iterator[tuple[int, int]]:
    import yaml

    text = document.text
    shift = 1 if text.startswith("\ufeff") else 0
    done = shift
    try:
        for token in yaml.scan(text[shift:], Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            start, end = token.start_mark.index + shift, token.end_mark.index + shift
            if start >= done:
                yield from _hashes(text, done, start)
            if text[start : start + 1] in "|>" and end > start:
                header_end = text.find("\n", start)
                yield from _hashes(text, start, min(end, header_end if header_end >= 0 else end))
            done = max(done, end)
    except yaml.YAMLError:
        return
    yield from _hashes(text, done, len(text))


def _hashes(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Comments in a stretch of YAML that holds no scalar."""
    for match in re.compile(r"(?:(?<=\s)|(?<![\s\S]))\#[^\r\n]*").finditer(text, start, end):
        yield match.span()


_SHELL_WORD = lazy(r"\\[\s\S]|'[^']*'|\"(?:[^\"\\]|\\[\s\S])*\"|(?P<comment>(?:(?<=[\s;&|()])|(?<![\s\S]))\#[^\r\n]*)")
"""What hides a `#` in a shell's text, and the comments between."""


def _shell_comments(document: Document) -> Iterator[tuple[int, int]]:
    for match in _SHELL_WORD.finditer(document.text):
        if match["comment"] is not None:
            yield match.span()


def _line_comments(document: Document) -> Iterator[tuple[int, int]]:
    """Of Makefiles and Dockerfiles, where nothing quotes a `#` at the start of a line or behind a space."""
    return _hashes(document.text, 0, len(document.text))


def _toml_comments(document: Document) -> Iterator[tuple[int, int]]:
    for match in _HASH_OR_TOML_STRING.finditer(document.text):
        if match["comment"] is not None:
            yield match.span()


_FORMS: MappingProxyType[str, Callable[[Document], Iterator[tuple[int, int]]]] = MappingProxyType(
    {
        "python": _python_comments,
        "notebook": _notebook_comments,
        "json": _json_comments,
        "yaml": _yaml_comments,
        "toml": _toml_comments,
        "shell": _shell_comments,
        "make": _line_comments,
        "docker": _line_comments,
    }
)


def _target(document: Document, start: int, end: int, comments: tuple[tuple[int, int], ...]) -> int:
    """The line that the comment at `start` is for: its own unless nothing else is on it."""
    line, column = document.position(start)
    last, behind = document.position(end)
    if document.line(line)[: column - 1].strip(" \t\ufeff"):
        return line
    if document.line(last)[behind - 1 :].strip():
        return last
    ends = dict(comments)
    number = last + 1
    while number <= len(document.line_starts):
        content = document.line(number)
        first = document.line_starts[number - 1] + len(content) - len(content.lstrip())
        if first in ends:
            number = document.position(ends[first])[0] + 1
        elif content.strip():
            return number
        else:
            number += 1
    return line


def _parse(document: Document, match: re.Match[str], place: Place, line: int) -> Directive | Problem:
    """The directive in the comment that `match` found."""
    text, start, end = document.text, match.start("body"), match.end("body")
    ignore = _IGNORE.match(text, start, end)
    if ignore is not None:
        return _ignore(document, ignore, place, line)
    return _declare(document, start, end, place)


def _ignore(document: Document, match: re.Match[str], place: Place, line: int) -> Directive | Problem:
    kind, written = match["kind"], match["names"]
    reason = " ".join(match["reason"].split())
    if written is None and (kind == "ignore" or reason.startswith("[")):
        cause = "the bracket is not closed" if reason.startswith("[") else "it names no rule"
        return _bad(place, f"{cause}; write `{kind}[exceeds-gpu-memory] reason`")
    base = match.start("names")
    names = []
    for item in _RULE.finditer(written or ""):
        if not _RULE_FORM.match(item[0]):
            return _bad(place, f"`{item[0]}` is no rule code or name; separate rules by commas")
        spot = Place(document.path, document.span(base + item.start(), base + item.end()))
        names.append(Scalar(item[0], spot, via=COMMENT))
    if written is not None and not names:
        return _bad(place, f"it names no rule; write `{kind}[exceeds-gpu-memory] reason`")
    return Directive(kind, place, line if kind == "ignore" else None, tuple(names), reason=reason)


def _declare(document: Document, start: int, end: int, place: Place) -> Directive | Problem:
    text = document.text
    values: list[Entry] = []
    position = _past_gap(text, start, end)
    while position < end:
        pair = _PAIR.match(text, position, end)
        if pair is None:
            word = text[position:end].split()[0]
            return _bad(place, f"`{word}` is no directive{_suggestion(word)}")
        key = pair["key"]
        kind = DECLARATIONS.get(key)
        if kind is None:
            return _bad(place, f"`{key}` cannot be declared{_suggestion(key)}")
        group = "bare" if pair["quoted"] is None else "quoted"
        value = _integer(pair[group]) if kind is int else pair[group]
        if not value or (kind is bytes and parse_size(pair[group]) is None):
            return _bad(place, f"`{key}` takes {_TAKES[kind]}")
        spot = Place(document.path, document.span(*pair.span(group)))
        key_place = Place(document.path, document.span(*pair.span("key")))
        values.append(Entry(key, key_place, Scalar(value, spot, via=COMMENT)))
        position = _past_gap(text, pair.end(), end)
    if not values:
        return _bad(place, "it says nothing; write `ignore[RULE] reason` or `gpu=NAME`")
    return Directive("declare", place, None, values=tuple(values))


def _past_gap(text: str, start: int, end: int) -> int:
    gap = _BETWEEN.match(text, start, end)
    return gap.end() if gap else start


def _integer(text: str) -> int | None:
    digits = text.replace("_", "")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None


def _bad(place: Place, message: str) -> Problem:
    return Problem("bad-directive", f"directive not understood: {message}", place)


def _suggestion(word: str) -> str:
    from difflib import get_close_matches

    key = re.split(r"[\[=]", word, maxsplit=1)[0]
    near = get_close_matches(key.replace("_", "-").lower(), ("ignore", "ignore-file", *DECLARATIONS), n=1)
    return f"; did you mean `{near[0]}`?" if near else f"; known: ignore, ignore-file, {', '.join(DECLARATIONS)}"
