"""Job files read in tests, with what a person would check about them."""

from __future__ import annotations

from vramlint.facts import Fact
from vramlint.readers.shell import read_shell
from vramlint.surfaces.jobfiles import workloads_of_yaml
from vramlint.surfaces.launch import Workload
from vramlint.text import Document, Place
from vramlint.values import Alternatives, Command, Scalar, Unknown, Value


def read(text: str, path: str = "job.yaml") -> tuple[Workload, ...]:
    return workloads_of_yaml(Document.of(path, text), read_shell)


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


def folder(command: Command) -> object:
    """Where a command runs."""
    return None if command.folder is None else _said(command.folder)


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
