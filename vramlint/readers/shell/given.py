"""What a script starts with: variables of the environment and arguments, from values to pieces."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.readers.shell.pieces import Choice, Hole, Pieces, Text
from vramlint.readers.shell.source import Range, Source
from vramlint.readers.shell.state import Arguments, State
from vramlint.text import Document, Place
from vramlint.values import Alternatives, Entry, Name, Scalar, Unknown, Value


def variables_of(environment: Sequence[Entry], source: Source, state: State) -> None:
    """Set the variables of the environment; they are exported."""
    for entry in environment:
        state.variables[entry.key] = pieces_of(entry.value, source, f"${entry.key}")
        state.exported[entry.key] = None


def arguments_of(values: Sequence[Value] | None, source: Source) -> Arguments:
    """The arguments."""
    if values is None:
        return Arguments(None)
    return Arguments(tuple(pieces_of(value, source, f"${index}") for index, value in enumerate(values, 1)))


class _Elsewhere(Source, eq=False):
    """A source of which only one place is known: where another file writes a value."""

    known: Place

    def place(self, start: int, end: int) -> Place:
        return self.known


def _range(place: Place | None, text: str, source: Source) -> Range:
    if place is None:
        return Range(source, 0, 0)
    return Range(_Elsewhere(Document.of(place.path, ""), "", place), 0, 0)


def pieces_of(value: Value, source: Source, written: str) -> Pieces:
    """A value that comes from outside, as pieces."""
    match value:
        case Scalar(None, place, _):
            return (Hole("a value that is null", written, _range(place, "", source), True),)
        case Scalar(plain, place, via):
            text = str(plain).lower() if isinstance(plain, bool) else str(plain)
            return (Text(text, _range(place, text, source), "environment" if via == "literal" else via, True),)
        case Unknown(reason, place):
            return (Hole(reason, written, _range(place, "", source), True),)
        case Alternatives(options, place):
            at = _range(place, "", source)
            return (Choice(tuple((pieces_of(o.value, source, written), o.condition) for o in options), at, at),)
        case Name(qualified, place):
            return (Text(qualified, _range(place, qualified, source), "environment", True),)
        case _:
            at = _range(value.place, "", source)
            return (Hole("a value of several parts", written, at, True),)
