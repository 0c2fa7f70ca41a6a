"""Workloads from plain command lines."""

from __future__ import annotations

import shlex

from vramlint.surfaces.launch import Launch, Workload, launches
from vramlint.text import Place, Span
from vramlint.values import Command, Entry, Scalar, Unknown, Value

PATH = "train.sh"


def command_of(text: str, environment: dict[str, str] | None = None) -> Command:
    """The command that a line of a script is; `$NAME` is a word that only run time knows."""
    words: list[Value] = []
    places: list[Place] = []
    column = 1
    for part in shlex.split(text):
        column = text.index(part, column - 1) + 1 if part in text[column - 1 :] else column
        place = Place(PATH, Span(1, column, 1, column + len(part)))
        name = part.removeprefix("$")
        words.append(Unknown(f"environment variable {name}", place) if part[:1] == "$" else Scalar(part, place))
        places.append(place)
        column += len(part)
    at = Place(PATH, Span(2, 1, 2, 9))
    entries = [Entry(key, at, Scalar(value, at, "environment")) for key, value in (environment or {}).items()]
    return Command(tuple(words), tuple(places), Place(PATH, Span(1, 1, 1, len(text) + 1)), tuple(entries))


def started(text: str, environment: dict[str, str] | None = None, **rest: object) -> tuple[Launch, ...]:
    """The launches of one line."""
    return launches(Workload(PATH, "", (command_of(text, environment),), **rest))  # type: ignore[arg-type]


def launch_of(text: str, environment: dict[str, str] | None = None, **rest: object) -> Launch:
    """The only launch of one line."""
    (launch,) = started(text, environment, **rest)
    return launch


def values(launch: Launch) -> dict[str, object]:
    """Every known fact and its value."""
    return {fact.name: fact.value for fact in launch.facts if fact.known}


def arguments(launch: Launch) -> list[object]:
    """The words that the program gets."""
    return [word.value if isinstance(word, Scalar) else word for word in launch.invocation.arguments]
