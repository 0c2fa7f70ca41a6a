"""Facts that a word of a command line states."""

from __future__ import annotations

from vramlint.facts import Candidate, Fact, FactValue, Origin
from vramlint.surfaces.draft import distinct, options, road, unknown
from vramlint.surfaces.launch.words import Word
from vramlint.surfaces.numbers import Convert, whole
from vramlint.text import Place
from vramlint.values import Scalar, Unknown, Value


def via_of(value: Value) -> str:
    """By which road a word came: its value's own, `cli` where the command itself writes it."""
    return spoken(road(value))


def spoken(way: str) -> str:
    """The road of a value in a command line: `cli` for one that is a literal of the script, the others as they are."""
    return "cli" if way in ("literal", "shell") else way


def count(name: str, word: Word, key: str, convert: Convert | None = None) -> Fact:
    """The fact `name` that the value of option `key` states; unknown with the reason where it states no number."""
    candidates: list[Candidate] = []
    for option in options(word.value):
        value = option.value
        if isinstance(value, Unknown):
            return unknown(name, value.reason, key, value.place or word.place)
        text = str(value.value) if isinstance(value, Scalar) else ""
        numbers = (convert or whole)(text)
        if isinstance(numbers, str):
            return unknown(name, numbers, key, word.place)
        place = (value.place if isinstance(value, Scalar) else None) or word.place
        candidates += (Candidate(number, place, option.condition) for number in numbers)
    return Fact(name, distinct(candidates), Origin.WRITTEN, key, via_of(word.value))


def opened(name: str, word: Word, key: str) -> Fact:
    """Unknown, for the option may hide in a word that only run time knows."""
    value = word.value
    reason = value.reason if isinstance(value, Unknown) else "a word that only run time knows"
    return unknown(name, reason, key, word.place)


def stated_at(name: str, value: FactValue, place: Place, key: str) -> Fact:
    """A fact that the command line writes."""
    return Fact(name, (Candidate(value, place),), Origin.WRITTEN, key, "cli")
