"""Reads Dockerfiles: instructions with their arguments at their places."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from vramlint.patterns import lazy
from vramlint.readers.excerpts import Excerpt, Piece, moved
from vramlint.readers.json import read_json
from vramlint.readers.templates import Found, expanded, is_known
from vramlint.text import Document, Place
from vramlint.values import Entry, Items, Scalar, Unknown, Value


class Start(Struct, frozen=True):
    """What a stage's image runs, in exec form (a list of words) or in shell form (text)."""

    words: Items | None
    text: Excerpt
    place: Place


class Stage(Struct, frozen=True):
    """One `FROM` and what follows it."""

    name: str
    entrypoint: Start | None = None
    command: Start | None = None
    environment: tuple[Entry, ...] = ()
    folder: Value | None = None
    """WORKDIR, as it stands in the image."""
    copies: tuple[tuple[str, str], ...] = ()
    """What is copied from the build's folder to where in the image."""


_INSTRUCTION = lazy(r"\s*(?P<word>[A-Za-z]+)(?:[ \t]+|$)")
_ESCAPE = lazy(r"\A(?:#[^\n]*\n)*?#\s*escape\s*=\s*`", re.IGNORECASE)
_HEREDOC = lazy(r"<<-?(['\"]?)([A-Za-z_]\w*)\1")
_FLAGS = lazy(r"(?:--[\w-]+(?:=\S*)?[ \t]+)*")
_VARIABLE = lazy(r"\\\$|\$\{(\w+)(?::([-+])([^}]*))?\}|\$(\w+)")
_PAIR = lazy(r"(\w+)=((?:\"(?:\\.|[^\"\\])*\"|'[^']*'|\\.|[^\s\"'\\])*)", re.DOTALL)
_FROM = lazy(r"(?P<image>\S+)(?:\s+as\s+(?P<name>\S+))?", re.IGNORECASE)


def read_dockerfile(document: Document) -> tuple[Stage, ...]:
    """The stages of a Dockerfile. A stage that starts from another one goes on with what that one set."""
    stages: list[Stage] = []
    outside: dict[str, Value] = {}
    known: dict[str, Value] = {}
    for word, text in _instructions(document):
        if word == "FROM":
            stages.append(_from(_put(text, outside), stages))
            known = {entry.key: entry.value for entry in stages[-1].environment}
        elif word == "ARG":
            name, value = _argument(text, {**outside, **known})
            value = outside.get(name) if value is None else value
            if value is not None:
                (known if stages else outside)[name] = value
        elif stages:
            stages[-1] = _taken(stages[-1], word, text, known)
    return tuple(stages)


def _instructions(document: Document) -> Iterator[tuple[str, Excerpt]]:
    """Each instruction's word and what stands behind it: comments left out, continued lines put together."""
    text = document.text
    mark = "`" if _ESCAPE.match(text) else "\\"
    at = 0
    while at < len(text):
        pieces: list[Piece] = []
        more = True
        while more and at < len(text):
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            line = text[at:end].rstrip()
            more = bool(pieces)
            if line.lstrip()[:1] not in ("", "#"):
                more = line.endswith(mark)
                kept = line.removesuffix(mark) if more else line
                pieces.append(Piece(kept, at, at + len(kept)))
                pieces.append(Piece(" ", end, end))
            at = end + 1
        excerpt = Excerpt.of(document, pieces)
        for delimiter in _HEREDOC.findall(excerpt.text):
            at = _behind(text, at, delimiter[1])
        found = _INSTRUCTION.match(excerpt.text)
        if found:
            yield found["word"].upper(), Excerpt.of(document, excerpt.cut(found.end(), len(excerpt.text.rstrip())))


def _behind(text: str, at: int, delimiter: str) -> int:
    """The offset behind a heredoc that starts at `at`."""
    match = re.compile(rf"(?m)^\t*{delimiter}\r?$\n?").search(text, at)
    return match.end() if match else at


def _from(text: Excerpt, stages: list[Stage]) -> Stage:
    flags = _FLAGS.match(text.text)
    match = _FROM.match(text.text, flags.end() if flags else 0)
    name = (match["name"] or "") if match else ""
    for stage in stages:
        if match and stage.name and stage.name.lower() == match["image"].lower():
            return replace(stage, name=name)
    return Stage(name)


def _argument(text: Excerpt, known: dict[str, Value]) -> tuple[str, Value | None]:
    name, equals, _ = text.text.partition("=")
    if not equals:
        return name.strip(), None
    return name.strip(), _value(Excerpt.of(text.source, text.cut(len(name) + 1, len(text.text))), known)


def _taken(stage: Stage, word: str, text: Excerpt, known: dict[str, Value]) -> Stage:
    """The stage after one more instruction."""
    match word:
        case "ENV":
            entries = tuple(_variables(text, known))
            known.update((entry.key, entry.value) for entry in entries)
            return replace(stage, environment=(*stage.environment, *entries))
        case "WORKDIR":
            folder = _value(text, known)
            if isinstance(folder, Scalar) and isinstance(stage.folder, Scalar):
                joined = folder.value if str(folder.value)[:1] == "/" else f"{stage.folder.value}/{folder.value}"
                folder = replace(folder, value=joined)
            return replace(stage, folder=folder)
        case "CMD":
            return replace(stage, command=_start(text))
        case "ENTRYPOINT":
            return replace(stage, entrypoint=_start(text), command=None)
        case "COPY" | "ADD":
            return replace(stage, copies=(*stage.copies, *_copies(_put(text, known).text)))
        case _:
            return stage


def _start(text: Excerpt) -> Start | None:
    if not text.pieces:
        return None
    place = text.stands(Place(text.document.path, text.document.span(0, len(text.text))))
    root = read_json(text.document).root if text.text.startswith("[") else None
    words = moved(root, text) if isinstance(root, Items) else None
    return Start(words if isinstance(words, Items) else None, text, place)


def _variables(text: Excerpt, known: dict[str, Value]) -> Iterator[Entry]:
    """`ENV A=1 B="2"`, or `ENV A 1` of old."""
    pairs = list(_PAIR.finditer(text.text))
    if not pairs or pairs[0].start() != 0:
        name, _, _ = text.text.partition(" ")
        rest = Excerpt.of(text.source, text.cut(len(name) + 1, len(text.text)))
        yield Entry(name, None, _value(rest, known))
        return
    for pair in pairs:
        yield Entry(pair[1], None, _value(Excerpt.of(text.source, text.cut(*pair.span(2))), known))


def _value(text: Excerpt, known: dict[str, Value]) -> Value:
    """A value after expansion, without its quotes."""
    put = _put(text, known)
    place = put.written(Place(put.document.path, put.document.span(0, len(put.text)))) if put.pieces else None
    if not is_known(put):
        return Unknown("a build argument", place)
    stripped = put.text.strip()
    if stripped[:1] in ("'", '"') and stripped[-1:] == stripped[:1] and len(stripped) > 1:
        stripped = stripped[1:-1]
    return Scalar(stripped.replace('\\"', '"'), place)


def _put(text: Excerpt, known: dict[str, Value]) -> Excerpt:
    def lookup(match: re.Match[str]) -> Found | None:
        name = match[1] or match[4]
        if name is None:
            return None
        value = known.get(name)
        if match[2] == "+":
            return match[3] if value is not None else ""
        if value is None or (isinstance(value, Scalar) and value.value == "" and match[2]):
            return match[3] if match[2] else Unknown(f"build argument {name}")
        return value

    return expanded(text, _VARIABLE, lookup)[0]


def _copies(text: str) -> Iterator[tuple[str, str]]:
    flags = _FLAGS.match(text)
    if flags and "--from" in flags[0]:
        return
    words = text[flags.end() if flags else 0 :].split()
    if text.lstrip()[:1] == "[" or len(words) < 2:
        return
    for source in words[:-1]:
        yield source, words[-1]
