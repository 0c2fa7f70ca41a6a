"""The command line of a tool as the table that its parser makes of it: `--bf16 --lora_r 16 --optim adamw_torch`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from msgspec.structs import replace

from vramlint.readers.json import read_json
from vramlint.surfaces.keys import KeyRow, rows
from vramlint.surfaces.launch.counts import spoken
from vramlint.surfaces.launch.scalars import typed
from vramlint.surfaces.launch.words import Word, after, canonical
from vramlint.text import Document, Place, Span
from vramlint.values import Entry, Invocation, Items, Scalar, Table, Unknown, Value

_VOCABULARIES = ("training-arguments", "trl", "trl-model")
_BOOLEANS = {"yes": True, "y": True, "t": True, "1": True, "no": False, "n": False, "f": False, "0": False}
"""Further words that HfArgumentParser takes for a boolean (transformers 5.23 hf_argparser.py, string_to_bool)."""


def arguments_table(invocation: Invocation) -> Table:
    """The options of a command line by their names, in written order; what stands in front of the first is left out.

    An option without a value is true, one with several a list; `{…}` is a mapping, as the trainer's parsers take it.
    """
    place = invocation.place
    words = [Word(value, at) for value in invocation.arguments if (at := value.place or place) is not None]
    return Table(tuple(_entries(words)), place)


def _entries(words: list[Word]) -> Iterator[Entry]:
    at = 0
    while at < len(words):
        word = words[at]
        text = word.text if word.text is not None else word.prefix
        at += 1
        if not _is_option(text):
            continue
        head, equals, _ = text.partition("=")
        if equals:
            given = [after(word, len(head) + 1)]
        else:
            end = at
            while end < len(words) and not _is_option(words[end].text or words[end].prefix):
                end += 1
            given, at = words[at:end], end
        yield _entry(canonical(head), word, given)


def _is_option(text: str) -> bool:
    return text.startswith("--") and len(text) > 2


def _entry(key: str, word: Word, given: list[Word]) -> Entry:
    positive = key.removeprefix("no_")
    if not given:
        off = positive != key and positive in known_keys() and key not in known_keys()
        return Entry(positive if off else key, word.place, Scalar(not off, word.place, "cli"))
    values = tuple([_value(key, item) for item in _own(key, given)])
    return Entry(
        key, word.place, values[0] if len(values) == 1 else Items(values, _from_to(given[0].place, given[-1].place))
    )


def _from_to(first: Place, last: Place) -> Place:
    """All words of a list."""
    start, end = first.span, last.span
    whole = Span(start.line, start.column, end.end_line, end.end_column)
    return Place(first.path, whole) if start <= end and first.path == last.path else first


def _own(key: str, given: list[Word]) -> list[Word]:
    """The words without a `"$@"` or `$MORE` behind a value: those are more options, unless the option takes a list."""
    row = known_keys().get(key)
    takes_list = key.endswith("modules") or (row is not None and row.converter == "names")
    whole = all(isinstance(word.value, Unknown) and not word.prefix and not word.value.suffix for word in given[1:])
    return given if takes_list or given[0].text is None or not whole else given[:1]


def _value(key: str, word: Word) -> Value:
    text = word.text
    row = known_keys().get(key)
    if text is not None and text.lstrip().startswith("{"):
        return _mapping(text, word)
    switches = row is not None and row.converter in ("flag", "switch", "four-bit", "eight-bit", "lora-or-full", "flash")
    if switches and text is not None and text.lower() in _BOOLEANS and isinstance(word.value, Scalar):
        return Scalar(_BOOLEANS[text.lower()], word.written, spoken(word.value.via))
    return typed(word)


@cache
def known_keys() -> dict[str, KeyRow]:
    """The keys of the trainer's arguments and of TRL's that say something about memory."""
    return {key: row for vocabulary in _VOCABULARIES for key, row in rows(vocabulary).items()}


def _mapping(text: str, word: Word) -> Value:
    """A JSON object in a word; every part at its own place where the word is written plainly, else at the word's."""
    root = read_json(Document.of(word.written.path, text)).root
    if not isinstance(root, Table):
        return Unknown("a mapping that cannot be read", word.place)
    return _moved(root, text, word.written)


def _moved(value: Value, text: str, place: Place) -> Value:
    match value:
        case Scalar():
            return replace(value, place=_at(value.place, text, place), via="cli")
        case Items():
            return Items(tuple([_moved(item, text, place) for item in value.values]), _at(value.place, text, place))
        case Table():
            entries = [
                Entry(entry.key, _at(entry.key_place, text, place), _moved(entry.value, text, place)) for entry in value
            ]
            return Table(tuple(entries), _at(value.place, text, place))
    return value


def _at(inner: Place | None, text: str, place: Place) -> Place:
    span = place.span
    quotes = (span.end_column - span.column - len(text)) // 2
    plain = span.line == span.end_line and span.end_column - span.column in (len(text), len(text) + 2)
    if inner is None or not plain or inner.span.line != 1 or inner.span.end_line != 1:
        return place
    shift = span.column + quotes - 1
    moved = inner.span._replace(line=span.line, end_line=span.line)
    return Place(place.path, moved._replace(column=moved.column + shift, end_column=moved.end_column + shift))
