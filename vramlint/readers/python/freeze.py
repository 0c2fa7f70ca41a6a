"""From the objects of a finished reading to the immutable values that surfaces take."""

from __future__ import annotations

from collections.abc import Callable

from vramlint.readers.python.conditions import Tests
from vramlint.readers.python.objects import (
    ITEMS,
    NOT_GIVEN,
    Attribute,
    Choice,
    Class,
    Function,
    Instance,
    LibraryObject,
    Mapping,
    Object,
    Partial,
    Sequence,
    Slot,
)
from vramlint.readers.python.operators import describe, reason_of
from vramlint.text import Place
from vramlint.values import Alternatives, Call, Entry, Items, Keyword, Name, Option, Scalar, Table, Unknown, Value

MAX_DEPTH = 60
"""Values nested deeper than this end in an unknown."""
_NOTHING: frozenset[int] = frozenset()


class Freezer:
    """Freezes objects once each, so that a call that appears in several places is the same value everywhere."""

    def __init__(self, around: Callable[[LibraryObject], tuple[Place, ...]]) -> None:
        """`around` tells which settings decided the branch around a call."""
        self._around = around
        self._done: dict[int, tuple[object, Value]] = {}
        self._active: set[int] = set()
        self._missing = _NOTHING
        """Active objects that what was frozen since is frozen without, because it lies inside of them."""
        self._torn: dict[int, tuple[object, Value, frozenset[int]]] = {}
        """Values without active objects, as long as these are active: outside of them they are whole."""

    def value(self, item: Object) -> Value:
        """The immutable value of an object."""
        if isinstance(item, (Scalar, Name, Unknown)):
            return item
        if isinstance(item, Choice):
            return self._choice(item)
        if id(item) in self._done:
            return self._done[id(item)][1]
        if id(item) in self._torn:
            _, torn, missing = self._torn[id(item)]
            self._missing |= missing
            return torn
        if id(item) in self._active or len(self._active) > MAX_DEPTH:
            self._missing |= {id(item)} & self._active
            return Unknown(f"{describe(item)} that holds itself")
        self._active.add(id(item))
        outside, self._missing = self._missing, _NOTHING
        try:
            frozen = self._build(item)
        finally:
            self._active.discard(id(item))
            missing, self._missing = self._missing, outside
        if missing:
            self._tear(item, frozen, missing)
        else:
            # the object is kept beside its value: a freed object's id would be given to another one
            self._done[id(item)] = item, frozen
        return frozen

    def _tear(self, item: Object, frozen: Value, missing: frozenset[int]) -> None:
        """Keep a value that lacks itself for good, and one that lacks others until those are whole."""
        inside = missing - {id(item)}
        self._torn = {key: torn for key, torn in self._torn.items() if id(item) not in torn[2]}
        if inside:
            self._torn[id(item)] = item, frozen, inside
            self._missing |= inside
        else:
            self._done[id(item)] = item, frozen

    def call(self, made: LibraryObject) -> Call | None:
        """The call behind a library object; None inside a cycle."""
        frozen = self.value(made)
        return frozen if isinstance(frozen, Call) else None

    def _build(self, item: Object) -> Value:
        match item:
            case Sequence():
                return self._sequence(item)
            case Mapping():
                return self._mapping(item)
            case LibraryObject():
                return self._library(item)
            case Attribute():
                return Unknown(reason_of(item), item.place)
            case Partial(place=Place()):
                return self._partial(item)
            case Class():
                names = item.base_names()
                return Name(item.name, item.place) if not names else Name(names[-1], item.place)
            case Function():
                return Unknown(f"function {item.name}")
            case Instance():
                return Unknown(f"an object of {describe(item)}", item.place)
        return Unknown(f"a {type(item).__name__.lower()}")

    def _partial(self, item: Partial) -> Value:
        """`functools.partial(…)`, whose arguments a library will call its function with."""
        args = tuple(self.value(argument) for argument in (item.target, *item.args))
        keywords = tuple(Keyword(given.name, self.value(given.value), given.name_place) for given in item.keywords)
        return Call("functools.partial", args, keywords, item.place) if item.place else Unknown("a partial")

    def _sequence(self, item: Sequence) -> Value:
        items = item.state[ITEMS]
        if isinstance(items, tuple):
            return Items(tuple(self.value(element) for element in items), item.place)
        return self.value(items)

    def _mapping(self, item: Mapping) -> Value:
        entries = []
        for key, slot in item.slots():
            value = self.value(slot.value)
            entries.append(Entry(key, slot.key_place, value))
        return Table(tuple(entries), item.place)

    def _library(self, item: LibraryObject) -> Value:
        owner, path = owner_of(item.receiver)
        return Call(
            callee=item.callee,
            args=tuple(self.value(argument) for argument in item.args),
            keywords=tuple(Keyword(given.name, self.value(given.value), given.name_place) for given in item.keywords),
            place=item.place,
            receiver=None if item.receiver is None else self.value(item.receiver),
            bases=() if item.local_class is None else item.local_class.base_names(),
            kind="" if item.local_class is None else item.local_class.name,
            conditions=item.conditions,
            open_keywords=item.open,
            hidden=item.hidden,
            from_command_line=item.from_command_line,
            bindings=tuple(self._bindings(item)),
            owner=None if owner is None else self.value(owner),
            path=path,
            decided=self._around(item),
            entered=item.entered,
            loops=item.loops,
        )

    def _bindings(self, item: LibraryObject) -> list[Keyword]:
        return [
            Keyword(path, self.value(item.argument(path) or NOT_GIVEN), slot.key_place)
            for path, slot in item.state.items()
            if isinstance(slot, Slot)
        ]

    def _choice(self, item: Choice) -> Value:
        options: list[Option] = []
        for option, tests in item.options:
            frozen, condition = self.value(option), condition_text(tests)
            if isinstance(frozen, Alternatives):
                options += [Option(inner.value, _both(condition, inner.condition)) for inner in frozen.options]
            else:
                options.append(Option(frozen, condition))
        return Alternatives(tuple(options), _first_place(options))


def owner_of(receiver: Object | None) -> tuple[LibraryObject | None, str]:
    """The library object of which `receiver` is an attribute, and the dotted path to it."""
    names: list[str] = []
    while isinstance(receiver, Attribute):
        names.append(receiver.name)
        receiver = receiver.receiver
    return (receiver, ".".join(reversed(names))) if names and isinstance(receiver, LibraryObject) else (None, "")


def condition_text(tests: Tests) -> str:
    """The tests of an option as one line of source text."""
    texts = list(dict.fromkeys(str(test) for test in tests if not test.silent))
    return texts[0] if len(texts) == 1 else _both(*texts)


def _both(*texts: str) -> str:
    """Conditions that hold together; those that bind more loosely than `and` get parentheses."""
    parts = [text for text in texts if text]
    if len(parts) == 1:
        return parts[0]
    return " and ".join(f"({part})" if " or " in part or " if " in part else part for part in parts)


def _first_place(options: list[Option]) -> Place | None:
    places = (getattr(option.value, "place", None) for option in options)
    return next((place for place in places if place is not None), None)
