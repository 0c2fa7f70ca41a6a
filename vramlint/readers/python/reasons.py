"""Which of the noted reasons are told: settings, and what is left out because of nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vramlint.readers.python.machine import Machine
from vramlint.readers.python.objects import LibraryObject, Mapping, Scope, Sequence
from vramlint.readers.python.trail import Branch
from vramlint.text import Place
from vramlint.values import Decision, Scalar

MOST = 6
"""Settings that are told of one value or branch."""


class Reasons:
    """The reasons of a finished reading."""

    def __init__(self, machine: Machine, module: Scope) -> None:
        self._trail = machine.trail
        declared = (*(setting.value for setting in machine.settings), *module.state.values())
        self._settings = {*_places(declared), *machine.trail.settings}

    def decisions(self) -> Iterator[Decision]:
        """All that settings decided."""
        for branch in self._trail.branches.values():
            by = self.settings(branch.by) if branch is not None else ()
            if branch is not None and by:
                yield Decision(by, branch.taken, self._skipped(branch))
        for place, parts in self._trail.chosen.items():
            by = self.settings(parts)
            if by:
                yield Decision(by, (place,))

    def around(self, made: LibraryObject) -> tuple[Place, ...]:
        """The settings that decided the innermost branch around a call that any decided."""
        return next((by for places in reversed(made.deciding) if (by := self.settings(places))), ())

    def settings(self, places: tuple[Place, ...]) -> tuple[Place, ...]:
        """Those of the places that settings are written at, or values that are computed from settings, and theirs."""
        found: dict[Place, None] = {}
        for place in places:
            found |= dict.fromkeys(self._origins(place, frozenset()))
        return tuple(found)[:MOST]

    def _origins(self, place: Place, seen: frozenset[Place]) -> list[Place]:
        if len(seen) > MOST:
            return []
        parts = [part for part in self._trail.chosen.get(place, ()) if part not in seen]
        further = [origin for part in parts for origin in self._origins(part, seen | {place})]
        return [place, *further] if further or place in self._settings else []

    def _skipped(self, branch: Branch) -> frozenset[str]:
        """What is left out; what a function does that is called elsewhere too is not."""
        unused = [
            names
            for function, names in branch.functions.items()
            if not function.called or id(function) in self._trail.spare
        ]
        return frozenset(branch.skipped).union(*unused)


def _places(declared: Iterable[object]) -> Iterator[Place]:
    """Where the plain values of settings are written, those in lists and mappings included."""
    pending = list(declared)
    seen: set[int] = set()
    while pending:
        item = pending.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        match item:
            case Scalar(place=Place() as place):
                yield place
            case Sequence():
                pending += item.elements or ()
                if item.place is not None:
                    yield item.place
            case Mapping():
                pending += (slot.value for _, slot in item.slots())
