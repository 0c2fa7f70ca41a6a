"""Job files read in tests, with what a person would check about them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vramlint.facts import Fact
from vramlint.surfaces.jobfiles import workloads_of_yaml
from vramlint.surfaces.launch import Workload
from vramlint.text import Document, Place
from vramlint.values import Alternatives, Command, Entry, Problem, Scalar, Shell, Unknown, Value

_LINE = re.compile(r"(?:[^\n\\]|\\.)+", re.DOTALL)
_WORD = re.compile(r"(?:'[^']*'|\"[^\"]*\"|[^\s])+")
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")


def plain_shell(
    document: Document, environment: Sequence[Entry] = (), name: str = ""
) -> tuple[Shell, tuple[Problem, ...]]:
    """One command a line, variables of the environment put in: enough of a shell for these tests."""
    known = {entry.key: entry.value for entry in environment}
    commands = []
    for line in _LINE.finditer(document.text):
        words, places = [], []
        for match in _WORD.finditer(line[0].replace("\\\n", "  ")):
            start, end = line.start() + match.start(), line.start() + match.end()
            place = Place(document.path, document.span(start, end))
            words.append(_word(match[0], place, known))
            places.append(place)
        if words:
            commands.append(Command(tuple(words), tuple(places), places[0], tuple(environment)))
    return Shell(document.path, tuple(commands)), ()


def _word(text: str, place: Place, known: dict[str, Value]) -> Value:
    whole = _VARIABLE.fullmatch(text)
    if whole:
        return known.get(whole[1], Unknown(f"variable {whole[1]}", place))
    if text[:1] == "'":
        return Scalar(text[1:-1], place)

    def put(match: re.Match[str]) -> str:
        value = known.get(match[1])
        return str(value.value) if isinstance(value, Scalar) else "?"

    return Scalar(_VARIABLE.sub(put, text).replace('"', ""), place)


def read(text: str, path: str = "job.yaml") -> tuple[Workload, ...]:
    return workloads_of_yaml(Document.of(path, text), plain_shell)


def said(command: Command) -> list[object]:
    """The words of a command: text, the possible texts, or the reason why it isn't known."""
    return [_said(word) for word in command.words]


def _said(word: Value) -> object:
    match word:
        case Scalar():
            return word.value
        case Alternatives(options=options):
            return tuple(_said(option.value) for option in options)
        case Unknown(reason=reason):
            return {reason}
        case _:
            raise AssertionError(word)


def stated(workload: Workload) -> dict[str, object]:
    """The facts of a workload: the value, the possible values, or the reason why it isn't known."""
    return {fact.name: _value(fact) for fact in workload.facts}


def _value(fact: Fact) -> object:
    values = tuple(candidate.value for candidate in fact.candidates)
    return {fact.reason} if not values else values[0] if len(values) == 1 else values


def text_at(text: str, place: Place | None) -> str:
    """What stands at a place."""
    assert place is not None
    return Document.of(place.path, text).slice(place.span)
