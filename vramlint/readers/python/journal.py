"""The record of what a program changes, so that the sides of an undecided branch can be undone and merged."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from vramlint.readers.python.choices import choose, same
from vramlint.readers.python.conditions import Test, Tests
from vramlint.readers.python.objects import ITEMS, NOT_GIVEN, OPEN, Option, Sequence, Slot, State
from vramlint.values import Unknown

_MISSING = object()


class Change(Struct, frozen=True):
    """A key of some state and what it holds now (`_MISSING`: nothing)."""

    state: State
    key: str
    value: Any


Changes = dict[tuple[int, str], Change]


class Journal:
    """All writes to any state go through here."""

    def __init__(self) -> None:
        self._log: list[Change] = []

    def put(self, state: State, key: str, value: object) -> None:
        """Set a key."""
        self._log.append(Change(state, key, state.get(key, _MISSING)))
        state[key] = value

    def remove(self, state: State, key: str) -> None:
        """Delete a key if it is there."""
        if key in state:
            self._log.append(Change(state, key, state[key]))
            del state[key]

    def mark(self) -> int:
        """A point to rewind to."""
        return len(self._log)

    def changed_since(self, mark: int) -> Changes:
        """What every state key written since `mark` held at that point."""
        before: Changes = {}
        for change in self._log[mark:]:
            before.setdefault((id(change.state), change.key), change)
        return before

    def rewind(self, mark: int) -> Changes:
        """Undo everything since `mark`; what it had come to."""
        before = self.changed_since(mark)
        after = {
            place: Change(change.state, change.key, change.state.get(change.key, _MISSING))
            for place, change in before.items()
        }
        for change in before.values():
            _store(change.state, change.key, change.value)
        del self._log[mark:]
        return after

    def replay(self, changes: Changes) -> None:
        """Do again what `rewind` undid."""
        for change in changes.values():
            if change.value is _MISSING:
                self.remove(change.state, change.key)
            else:
                self.put(change.state, change.key, change.value)

    def merge(self, ours: Changes, theirs: Changes, test: Test) -> None:
        """Make the state what it is after either side of `test`."""
        yes: Tests = (test,)
        no: Tests = (Test(test.text, not test.holds, test.scope),)
        for place in {**ours, **theirs}:
            change = ours.get(place) or theirs[place]
            now = change.state.get(change.key, _MISSING)
            left = ours[place].value if place in ours else now
            right = theirs[place].value if place in theirs else now
            merged = _merged(change.key, left, right, yes, no)
            if merged is not _MISSING:
                self.put(change.state, change.key, merged)

    def restore_plain(self, mark: int) -> None:
        """Give back every plain value that changed since `mark`."""
        for change in self.changed_since(mark).values():
            held = change.value.value if isinstance(change.value, Slot) else change.value
            if _is_plain(held) and change.value is not change.state.get(change.key, _MISSING):
                self.put(change.state, change.key, change.value)

    def blur(self, before: Changes) -> None:
        """After a loop whose number of turns is unknown: what it steps or appends to is unknown too."""
        for change in before.values():
            now = change.state.get(change.key, _MISSING)
            if change.value is _MISSING or now is _MISSING or same(now, change.value):
                continue
            if change.key == ITEMS or (_is_plain(change.value) and _is_plain(now)):
                self.put(change.state, change.key, Unknown("changes in a loop"))


def _is_plain(value: object) -> bool:
    return isinstance(value, (str, int, float)) or type(value).__name__ in {"Scalar", "Unknown"}


def _store(state: State, key: str, value: object) -> None:
    if value is _MISSING:
        state.pop(key, None)
    else:
        state[key] = value


def _merged(key: str, left: Any, right: Any, yes: Tests, no: Tests) -> Any:  # noqa: ANN401 (states hold anything)
    """What one key holds after both sides."""
    if left is right:
        return left
    if key == OPEN:
        return True
    kinds = {type(item) for item in (left, right) if item is not _MISSING}
    if Slot in kinds:
        place = (left if isinstance(left, Slot) else right).key_place
        options = ((item.value if isinstance(item, Slot) else NOT_GIVEN) for item in (left, right))
        first, second = options
        return Slot(place, choose(((first, yes), (second, no))))
    if Option in kinds:
        return right if left is _MISSING else left
    if tuple in kinds:
        sides = [Sequence.of(item) if isinstance(item, tuple) else item for item in (left, right)]
        return choose(((sides[0], yes), (sides[1], no)))
    if _MISSING in (left, right):
        # a name that only one side binds: the other side would fail at its first use
        return right if left is _MISSING else left
    return choose(((left, yes), (right, no)))
