"""What a shell knows at one moment: variables, functions, folder; and how the ways of a branch come together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct, field

from vramlint.readers.shell.pieces import (
    MOST_OPTIONS,
    Choice,
    Fork,
    Hole,
    Pieces,
    Word,
    chosen,
    conjunction,
    holes,
    possible,
)
from vramlint.readers.shell.source import Range, Source
from vramlint.readers.shell.syntax import Statement


class Array(Struct, frozen=True):
    """An array. `keys` where it is associative or has gaps, None where it counts from 0."""

    elements: tuple[Word, ...] = ()
    keys: tuple[str, ...] | None = None
    associative: bool = False


Held = Pieces | Array


class Function(Struct, frozen=True):
    """A function's body and the text that it stands in."""

    body: Statement
    source: Source


class Arguments(NamedTuple):
    """`$1 $2 …`: None where nobody says what is given."""

    words: tuple[Word, ...] | None
    shifted: int = 0


class State(Struct):
    """All that a subshell inherits."""

    variables: dict[str, Held] = field(default_factory=dict)
    exported: dict[str, None] = field(default_factory=dict)
    integers: frozenset[str] = frozenset()
    functions: dict[str, Function] = field(default_factory=dict)
    folder: Pieces | None = None
    arguments: Arguments = field(default_factory=lambda: Arguments(None))
    mentioned: set[str] = field(default_factory=set)
    """Variables that the script itself may have set so far: unset, they are empty, not the environment's."""
    ended: str = ""
    """exit, return, break or continue: nothing more runs here."""

    def copy(self) -> State:
        """A state that changes on its own."""
        return State(
            self.variables.copy(),
            self.exported.copy(),
            self.integers,
            self.functions.copy(),
            self.folder,
            self.arguments,
            self.mentioned.copy(),
            self.ended,
        )


class Way(Struct, frozen=True):
    """One way through a branch: the state at its end, its condition; `usual`: it is taken when nothing is given."""

    state: State
    condition: str
    usual: bool = False


def merged(ways: Sequence[Way], at: Range) -> State:
    """The state behind a branch that could not be decided."""
    alive = [way for way in ways if not way.state.ended]
    if not alive:
        return ways[0].state
    if len(alive) == 1:
        return alive[0].state
    first = alive[0].state
    result = first.copy()
    for name in dict.fromkeys(name for way in alive for name in way.state.variables):
        values = [way.state.variables.get(name) for way in alive]
        if all(value is values[0] for value in values):
            continue
        if None in values and any(f"${name}" in way.condition or f"${{{name}" in way.condition for way in alive):
            given: Pieces = (Hole(f"environment variable {name}", f"${name}", at, True, ""),)
            values = [given if value is None else value for value in values]
        result.variables[name] = _held([(value, way) for value, way in zip(values, alive, strict=True)], at)
    for way in alive[1:]:
        result.exported.update(way.state.exported)
        result.functions.update(way.state.functions)
        result.mentioned |= way.state.mentioned
        result.integers |= way.state.integers
    if any(way.state.folder != first.folder for way in alive):
        result.folder = _pieces([(way.state.folder or (), way) for way in alive], at)
    if any(way.state.arguments != first.arguments for way in alive):
        result.arguments = Arguments(None)
    return result


def _held(options: list[tuple[Held | None, Way]], at: Range) -> Held:
    arrays = [(value, way) for value, way in options if isinstance(value, Array)]
    if not arrays:
        return _pieces([(value if value is not None else (), way) for value, way in options], at)  # type: ignore[misc]
    lists = [(value if isinstance(value, Array) else Array(), way) for value, way in options]
    keys = lists[0][0].keys
    if all(array.keys == keys for array, _ in lists) and keys is not None:
        columns = [
            _pieces([(_plain(array.elements[index], at), way) for array, way in lists], at)
            for index in range(len(keys))
        ]
        return Array(tuple(columns), keys, lists[0][0].associative)
    if any(array.keys is not None for array, _ in lists):
        same = len({array for array, _ in lists}) == 1
        return lists[0][0] if same else (Hole("an array that differs", "…", at, True),)
    usual = _usual([(array.elements, way) for array, way in lists])
    if usual is not None:
        return Array(usual)  # type: ignore[arg-type]
    front, back = _shared([array.elements for array, _ in lists])
    middle = [(array.elements[front : len(array.elements) - back], way) for array, way in lists]
    elements = lists[0][0].elements
    if all(len(words) == 1 and not isinstance(words[0], Fork) for words, _ in middle):
        between: Word = _pieces([(words[0], way) for words, way in middle], at)  # type: ignore[misc]
    else:
        between = Fork(tuple((words, way.condition) for words, way in middle))
    return Array((*elements[:front], between, *elements[len(elements) - back :]))


def _plain(word: Word, at: Range) -> Pieces:
    return (Hole("an element that differs", "…", at, True),) if isinstance(word, Fork) else word


def _shared(values: Sequence[tuple[object, ...]]) -> tuple[int, int]:
    """How many items at the front and at the back all have in common."""
    shortest = min(len(value) for value in values)
    front = 0
    while front < shortest and all(value[front] == values[0][front] for value in values):
        front += 1
    back = 0
    while back < shortest - front and all(value[-1 - back] == values[0][-1 - back] for value in values):
        back += 1
    return front, back


def _pieces(options: list[tuple[Pieces, Way]], at: Range) -> Pieces:
    usual = _usual(options)
    if usual is not None:
        return usual
    front, back = _shared([pieces for pieces, _ in options])
    flat: list[tuple[Pieces, str]] = []
    for pieces, way in options:
        middle = pieces[front : len(pieces) - back]
        if len(middle) == 1 and isinstance(middle[0], Choice):
            inner = [(option, conjunction((way.condition, text))) for option, text in middle[0].options]
            flat += [item for item in inner if possible(item[1])] or inner
        else:
            flat.append((middle, way.condition))
    first = options[0][0]
    between = chosen(flat, at)
    if len(between) == 1 and isinstance(between[0], Choice) and len(between[0].options) > MOST_OPTIONS:
        between = (Hole("one of many values", "…", at, True),)
    return (*first[:front], *between, *first[len(first) - back :])


def _usual(options: list[tuple[tuple[Word, ...], Way]] | list[tuple[Pieces, Way]]) -> Pieces | None:
    """The value of the way that is taken when nothing is given, where the others only pass on what is given.

    `if [ -n "$1" ]; then N=$1; else N=8; fi` says the same as `N=${1:-8}`.
    """
    usual = [value for value, way in options if way.usual]
    others = [value for value, way in options if not way.usual]
    if len(usual) != 1 or not others or any(isinstance(item, Fork) for item in usual[0]):
        return None
    for value in others:
        found = list(holes(value))  # type: ignore[arg-type]
        if not found or any(hole.given is None for hole in found):
            return None
    return usual[0]  # type: ignore[return-value]
