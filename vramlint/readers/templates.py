"""Variables put into a text before a shell sees it: `${{ matrix.model }}`, `$(MODEL)` of make, `$(VAR)` of a pod."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from vramlint.patterns import lazy
from vramlint.readers.excerpts import Excerpt, Piece
from vramlint.values import Alternatives, Command, Entry, Option, Scalar, Unknown, Value

Found = Value | str | Excerpt
"""What takes the place of a variable: a value, text without a place of its own, or text with places."""

Lookup = Callable[[re.Match[str]], Found | None]
"""What takes the place of a match; None where it stays as it is."""

_MARK = "__"
_HELD = lazy(r"\$\{(__\w+)\}")


def expanded(excerpt: Excerpt, pattern: re.Pattern[str], lookup: Lookup) -> tuple[Excerpt, tuple[Entry, ...]]:
    """The excerpt with something else for the matches of a pattern, and what `put` holds back."""
    held: dict[str, Value] = {}
    matches = ((match.start(), match.end(), lookup(match)) for match in pattern.finditer(excerpt.text))
    found = put(excerpt, ((start, end, value) for start, end, value in matches if value is not None), held)
    return found, tuple(Entry(name, None, value) for name, value in held.items())


def put(excerpt: Excerpt, parts: Iterable[tuple[int, int, Found]], held: dict[str, Value]) -> Excerpt:
    """The excerpt with something else for some parts of its text.

    A value that isn't known text stands there as `${__name}`, which a shell reader looks up in its environment: it
    goes into `held` under that name.
    """
    pieces: list[Piece] = []
    done = 0
    for start, end, found in parts:
        pieces += excerpt.cut(done, start)
        done = end
        pieces += _pieces(found, excerpt, excerpt.site(start, end), excerpt.text[start:end], held)
    if not done:
        return excerpt
    pieces += excerpt.cut(done, len(excerpt.text))
    return Excerpt.of(excerpt.source, pieces)


def is_known(excerpt: Excerpt) -> bool:
    """Whether no part of the text was held back."""
    return _HELD.search(excerpt.text) is None


def _pieces(
    found: Found, excerpt: Excerpt, site: tuple[int, int], said: str, held: dict[str, Value]
) -> Iterable[Piece]:
    if isinstance(found, str):
        return [Piece(found, *site, site)]
    if isinstance(found, Excerpt):
        return [piece._replace(site=site) for piece in found.pieces]
    if isinstance(found, Scalar) and found.value is not None:
        place, source = found.place, excerpt.source
        if place is None or place.path != source.path:
            return [Piece(text_of(found), *site, site)]
        span = place.span
        start, end = source.offset(span.line, span.column), source.offset(span.end_line, span.end_column)
        return [Piece(text_of(found), start, end, site)]
    name = _name(said, found, held)
    held[name] = found
    return [Piece(f"${{{name}}}", *site, site)]


def _name(said: str, value: Value, held: dict[str, Value]) -> str:
    words = re.sub(r"\W+", "_", said).strip("_") or "value"
    name, number = _MARK + words, 1
    while held.get(name, value) != value:
        number += 1
        name = f"{_MARK}{words}_{number}"
    return name


def text_of(value: Scalar) -> str:
    """A scalar as YAML, JSON and make write it into a command line."""
    if isinstance(value.value, bool):
        return "true" if value.value else "false"
    return "" if value.value is None else str(value.value)


def filled(command: Command, held: Sequence[Entry]) -> Command:
    """The command with values where single quotes kept the shell from looking a variable of `expanded` up."""
    if not held:
        return command
    return replace(
        command,
        words=tuple(_readable(filled_word(word, held)) for word in command.words),
        conditions=tuple(_HELD.sub(_shown, condition) for condition in command.conditions),
        label=_HELD.sub(_shown, command.label),
        environment=tuple(entry for entry in command.environment if not entry.key.startswith(_MARK)),
    )


def _readable(word: Value) -> Value:
    """A word whose reason and beginning name a variable as people know it."""
    if not isinstance(word, Unknown) or _MARK not in word.reason + word.prefix:
        return word
    prefix = word.prefix.partition("${" + _MARK)[0]
    return replace(word, reason=_HELD.sub(_shown, word.reason), prefix=prefix)


def _shown(match: re.Match[str]) -> str:
    return match[1].removeprefix(_MARK)


def filled_word(word: Value, held: Sequence[Entry]) -> Value:
    """One word of `filled`."""
    if not isinstance(word, Scalar) or not isinstance(word.value, str) or "${__" not in word.value:
        return word
    values = {entry.key: entry.value for entry in held}
    options = [""]
    done = 0
    for match in _HELD.finditer(word.value):
        value = values.get(match[1])
        choices = _texts(value)
        if choices is None or len(options) * len(choices) > 16:
            return value if isinstance(value, Unknown) else Unknown("a value put in by the job file", word.place)
        before = word.value[done : match.start()]
        options = [option + before + choice for option in options for choice in choices]
        done = match.end()
    texts = [option + word.value[done:] for option in options]
    if len(texts) == 1:
        return replace(word, value=texts[0])
    return Alternatives(tuple(Option(replace(word, value=text)) for text in texts), word.place)


def _texts(value: Value | None) -> list[str] | None:
    match value:
        case Scalar():
            return [text_of(value)]
        case Alternatives(options=options) if all(isinstance(option.value, Scalar) for option in options):
            return [text_of(option.value) for option in options if isinstance(option.value, Scalar)]
        case _:
            return None
