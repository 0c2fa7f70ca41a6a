"""From facts with several possible values to possible worlds, in each of which every fact has one value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from vramlint.facts import NAMES, Candidate, Fact, Origin
from vramlint.resolve.assume import at_run_time
from vramlint.resolve.board import Board
from vramlint.resolve.conditions import is_ruled_out
from vramlint.resolve.network import Network
from vramlint.resolve.steps import LATER, SPANNING, STEPS

MOST_WORLDS = 64
MOST_CHOICES = 4
"""How many worlds are told apart, and how many values of one fact. Each choice shares the room that is left among
its values; without room, a fact takes its last value where the choice before did, else its first, so that the
worlds still reach from one end to the other."""


class Worlds(Struct, frozen=True):
    """The worlds of a run."""

    boards: tuple[Board, ...]
    passed_over: Mapping[str, tuple[Candidate, ...]]
    """Possible values that have no world of their own, by fact."""


def settled(board: Board, networks: Mapping[str, Network | None]) -> Worlds:
    """The possible worlds of a run.

    Args:
        board: the facts of the files.
        networks: the network behind every model name that the facts mention.
    """
    start = board.copy()
    stepped = {step.name for step in STEPS}
    for name, fact in board.facts.items():
        if not fact.candidates and name not in LATER and name not in stepped:
            found = at_run_time(start, name)
            if found:
                start.facts[name] = found
    settling = _Settling(networks, {})
    boards = tuple(settling.settle(start, 0, MOST_WORLDS))
    return Worlds(boards, {name: tuple(found) for name, found in settling.passed_over.items()})


class _Settling(Struct, frozen=True):
    networks: Mapping[str, Network | None]
    passed_over: dict[str, list[Candidate]]

    def settle(self, board: Board, index: int, room: int, high: bool = False) -> Iterator[Board]:
        """The worlds of `board` from step `index` on, at most `room` of them."""
        while index < len(STEPS):
            step = STEPS[index]
            name = board.value("model")
            board.network = self.networks.get(name) if isinstance(name, str) else board.network
            if board.is_unknown(step.name) and step.name not in LATER:
                assumed = at_run_time(board, step.name)
                if assumed:
                    board.facts[step.name] = assumed
            opened = next((need for need in (*step.needs, step.name) if board.is_open(need)), None)
            if opened:
                yield from self._split(board, opened, index, room, high)
                return
            found = step.rule(board)
            if found is not None:
                board.facts[step.name] = found
                if len(found.candidates) > 1:
                    continue
            index += 1
        last = next((name for name in board.facts if name in SPANNING and board.is_open(name)), None)
        if last is None:
            yield board
        else:
            yield from self._split(board, last, index, room, high)

    def _split(self, board: Board, name: str, index: int, room: int, high: bool) -> Iterator[Board]:
        allowed = _allowed(board, name)
        choices = _ends(allowed)
        if room < len(choices):
            choices = (choices[-1 if high else 0],) if room < 2 else (choices[0], choices[-1])
        if len(choices) < len(allowed):
            self.passed_over.setdefault(name, []).extend(item for item in allowed if item.value is not None)
        for number, candidate in enumerate(choices, 1):
            upper = high if len(choices) == 1 else number == len(choices)
            yield from self.settle(board.chosen(name, candidate), index, room // len(choices), upper)


def _allowed(board: Board, name: str) -> Sequence[Candidate]:
    """The candidates of a fact that this world still allows."""
    every = board.facts[name].candidates
    return [item for item in every if not is_ruled_out(board, name, item.condition)] or every


def _ends(allowed: Sequence[Candidate]) -> Sequence[Candidate]:
    """Of many numbers only the least and the greatest; of many other values a few."""
    numbers = [item for item in allowed if isinstance(item.value, int | float) and not isinstance(item.value, bool)]
    if len(numbers) > 1 and len(numbers) == len(allowed):
        ordered = sorted(numbers, key=_number)
        return ordered[0], ordered[-1]
    return (*allowed[: MOST_CHOICES - 1], allowed[-1]) if len(allowed) > MOST_CHOICES else allowed


def _number(candidate: Candidate) -> float:
    return float(candidate.value) if isinstance(candidate.value, int | float) else 0.0


_RANK = {Origin.WRITTEN: 0, Origin.ASSUMED: 1, Origin.DERIVED: 2, Origin.DEFAULT: 3, Origin.UNKNOWN: 4}


def merged(worlds: Worlds) -> tuple[Fact, ...]:
    """One fact per name over all worlds, with every value that it may have."""
    found: dict[str, list[Fact]] = {}
    for board in worlds.boards:
        for name, fact in board.facts.items():
            found.setdefault(name, []).append(fact)
    return tuple(_merge(found[name], worlds.passed_over.get(name, ())) for name in NAMES if name in found)


def _merge(facts: list[Fact], passed_over: Iterable[Candidate]) -> Fact:
    candidates: dict[tuple[type, object], Candidate] = {}
    for candidate in (*(item for fact in facts for item in fact.candidates), *passed_over):
        candidates.setdefault((type(candidate.value), candidate.value), candidate)
    first = min(facts, key=lambda fact: _RANK[fact.origin])
    return replace(first, candidates=tuple(candidates.values()))
