"""The words of a command line: where each is written, and what may stand there."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from vramlint.patterns import lazy
from vramlint.readers.python.choices import choose, consistent, each, options_of
from vramlint.readers.python.conditions import Test, Tests
from vramlint.readers.python.machine import Machine
from vramlint.readers.python.objects import ITEMS, Choice, Mapping, Object, Sequence, Slot
from vramlint.text import Place, Span
from vramlint.values import Alternatives, Invocation, Items, Scalar, Unknown, Value

Words = tuple[Object, ...]

LAUNCHER = -1
"""The scope of conditions that a launcher leaves undecided."""

MAX_VARIANTS = 8
"""Ways to read one command line; beyond, words that may be flags or none are unknown."""

_NUMBER = lazy(r"-(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?")


def start(machine: Machine, invocation: Invocation) -> None:
    """Give the program its command line and environment."""
    program = Scalar(machine.source.document.path, None, "environment")
    words = [word for value in invocation.arguments for word in _words(value)]
    machine.process["argv"] = Sequence.of((program, *words), invocation.place)
    machine.environment = {entry.key: _word(entry.value) for entry in invocation.environment}


def _words(value: Value) -> Words:
    return tuple(map(_word, value.values)) if isinstance(value, Items) else (_word(value),)


def _word(value: Value) -> Object:
    match value:
        case Scalar():
            return Scalar(_text(value), value.place, "cli" if value.via == "literal" else value.via)
        case Unknown():
            return value
        case Items():
            return Sequence.of(tuple(map(_word, value.values)), value.place)
        case Alternatives():
            return choose((_word(option.value), tests_of(option.condition)) for option in value.options)
    return Unknown("a word of the command line", value.place)


def _text(value: Scalar) -> str:
    return "" if value.value is None else str(value.value)


def tests_of(condition: str) -> Tests:
    """A launcher's undecided condition as tests."""
    if not condition:
        return ()
    negated = condition.startswith("not ")
    text = condition.removeprefix("not ")
    if negated and text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    return (Test(text, not negated, LAUNCHER),)


def command_line(machine: Machine, explicit: Object | None = None) -> Words | None:
    """The words that a parser takes: those it is given, or the program's own. None: not known."""
    if isinstance(explicit, Sequence):
        elements = explicit.elements
        return None if elements is None else tuple(map(_as_word, elements))
    if explicit is not None and not (isinstance(explicit, Scalar) and explicit.value is None):
        return None
    given = machine.process.get("argv")
    elements = given.elements if isinstance(given, Sequence) else None
    return None if elements is None else elements[1:]


def _as_word(item: Object) -> Object:
    return Scalar(_text(item), item.place, item.via) if isinstance(item, Scalar) else item


def argv(machine: Machine, place: Place) -> Object:
    """`sys.argv`: unknown where nothing says how many words there are."""
    given = machine.process.get("argv")
    if not isinstance(given, Sequence) or given.elements is None:
        return Unknown("command line arguments", place) if given is None else given
    before: Object | None = None
    for word in given.elements:
        valued = isinstance(before, Scalar) and is_flag(before) and "=" not in str(before.value)
        if isinstance(word, Unknown) and not word.prefix and not valued:
            return Unknown("command line arguments", place)
        before = word
    return given


def are_words(machine: Machine, elements: Words) -> bool:
    """Whether the elements are words of the program's own command line."""
    given = machine.process.get("argv")
    known = {id(word) for word in given.elements or ()} if isinstance(given, Sequence) else set()
    return bool(elements) and all(id(element) in known for element in elements)


def is_flag(word: Object) -> bool:
    """Whether a word is spelled as a flag and not as a value."""
    text = spelled(word)
    return len(text) > 1 and text.startswith("-") and not _NUMBER.fullmatch(text) and " " not in text.partition("=")[0]


def spelled(word: Object) -> str:
    """What a word surely begins with; all of it where it is known."""
    if isinstance(word, Unknown):
        return word.prefix
    return str(word.value) if isinstance(word, Scalar) else ""


def is_loose(word: Object) -> bool:
    """Whether a word may be anything: flags, values, or none at all."""
    return isinstance(word, Unknown) and not word.prefix


def part(word: Object, length: int) -> Object:
    """What stands behind the first `length` characters of a word."""
    if isinstance(word, Unknown):
        return Unknown(word.reason, word.place, word.prefix[length:])
    if isinstance(word, Choice):
        return each(lambda one: part(one, length), word)
    if not isinstance(word, Scalar):
        return word
    text = str(word.value)
    return Scalar(text[length:], _part_of(word.place, text, length), word.via)


def _part_of(place: Place | None, text: str, length: int) -> Place | None:
    """The place of a word's end; of all of it where the word isn't written as it reads."""
    if place is None or place.span.line != place.span.end_line:
        return place
    width = place.span.end_column - place.span.column
    line, column, _, end = place.span
    if width == len(text):
        return Place(place.path, Span(line, column + length, line, end))
    if width == len(text) + 2:  # `--flag="value"`
        return Place(place.path, Span(line, column + length + 1, line, end - 1))
    return place


def head(word: Object, length: int) -> Place | None:
    """The place of a word's first `length` characters: the flag of `--flag=value`."""
    place = word.place if isinstance(word, (Scalar, Unknown)) else None
    if place is None or place.span.line != place.span.end_line or length >= place.span.end_column - place.span.column:
        return place
    line, column, _, _ = place.span
    return Place(place.path, Span(line, column, line, column + length))


def split_flag(word: Object) -> tuple[str, Object | None]:
    """The flag of a word and the value behind its `=`, None if it has none."""
    text = spelled(word)
    flag, equals, _ = text.partition("=")
    return flag, part(word, len(flag) + 1) if equals else None


_INSIDE_WORDS = """
    literal module-constant function-default argparse-default dataclass-default click-default computed library
    environment code
"""
_INSIDE = frozenset(_INSIDE_WORDS.split())


def is_given(item: Object) -> bool:
    """Whether a text comes from outside of the program, where a part of it is written too."""
    return isinstance(item, Scalar) and item.via not in _INSIDE


def piece_of(item: Object, word: Object) -> Object:
    """What a program cuts out of a word, at its own place where it is the word's end."""
    if isinstance(item, Sequence) and item.elements is not None:
        return Sequence.of(tuple(piece_of(element, word) for element in item.elements), getattr(word, "place", None))
    if isinstance(item, Scalar) and isinstance(item.value, str) and isinstance(word, Scalar):
        text = str(word.value)
        if item.value and text.endswith(item.value):
            return part(word, len(text) - len(item.value))
    return relocated(item, word)


def relocated(item: Object, word: Object) -> Object:
    """An object worked out from a word, written where the word is."""
    place = getattr(word, "place", None)
    via = word.via if isinstance(word, Scalar) else "cli"
    match item:
        case Scalar():
            return Scalar(item.value, place, via)
        case Sequence() if item.elements is not None:
            return Sequence({ITEMS: tuple(relocated(element, word) for element in item.elements)}, place)
        case Mapping():
            state = {
                key: Slot(place, relocated(slot.value, word), slot.key) if isinstance(slot, Slot) else slot
                for key, slot in item.state.items()
            }
            return Mapping(state, place, attributes=item.attributes)
        case Choice():
            return choose((relocated(option, word), tests) for option, tests in item.options)
    return item


def variants(words: Words) -> tuple[tuple[Words, Tests], ...]:
    """The command lines that there may be: a word that is a flag in one case and something else in another splits it.

    A word that is one of several values stays one.
    """
    split = [options_of(word) if _decides_form(word) else ((word, ()),) for word in words]
    count = 1
    for options in split:
        count *= len(options)
    if count > MAX_VARIANTS:
        reason = "too many ways to read the command line"
        split = [options if len(options) == 1 else ((Unknown(reason), ()),) for options in split]
    found: list[tuple[Words, Tests]] = []
    for combination in product(*split):
        tests = tuple(dict.fromkeys(test for _, more in combination for test in more))
        if consistent(tests, ()):
            found.append((tuple(_flattened(option for option, _ in combination)), tests))
    return tuple(found)


def _decides_form(word: Object) -> bool:
    if isinstance(word, Sequence):
        return True
    return isinstance(word, Choice) and any(isinstance(one, Sequence) or is_flag(one) for one, _ in word.options)


def _flattened(words: Iterable[Object]) -> Iterable[Object]:
    for word in words:
        if isinstance(word, Sequence):
            yield from word.elements or (Unknown("words of the command line"),)
        else:
            yield word
