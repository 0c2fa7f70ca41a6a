"""Which of a pipeline rank's actions hold the most (torch 2.13 torch/distributed/pipelining/{schedules,stage}.py).

A backward of the inputs keeps the whole graph for that of the weights: the nodes of the weights hold those before them.
The first stage has no inputs to differentiate, so its backward is a whole one, in the place of that of the weights.
Behind the last backward of a chunk its gradients are reduced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec.structs import replace

from vramlint.job import Turn
from vramlint.memory.torch_schedules import BACKWARD, FORWARD, INPUT, WEIGHT, Action, Actions

NONE, REDUCED, FRESH, KEPT, BOTH = "none", "reduced", "fresh", "kept", "both"
"""What there is of a chunk's gradients: nothing; this rank's share; those that a backward of weights has just left;
those that wait in the dtype of the reduction; the last two."""
_LEVELS = (NONE, REDUCED, FRESH, KEPT, BOTH)
"""The same by how much they are."""
Turns = tuple[Turn, ...]


def turns(actions: Actions, *, first: bool, last: bool = False, sharded: bool = True, widens: bool = True) -> Turns:
    """The backwards of a rank that differ by what is alive, in their order, the first of all among them.

    One is left out where nothing but the number of passed gradients is less than in a later one.

    Args:
        actions: of the rank.
        first: its first chunk is the model's first stage.
        last: the stages lie in a V, of which it is the point: it hands on to itself.
        sharded: gradients are reduced to this rank's share.
        widens: they wait for it in a wider dtype than they come in.
    """
    merged = [*_merged(actions)] if first else actions
    found = list(_backwards(merged, last=last, sharded=sharded, widens=widens))
    latest = {replace(turn, passed=0): at for at, turn in enumerate(found)}
    return tuple([found[at] for at in sorted({0, *latest.values()})])


def undominated(found: Turns) -> Turns:
    """Those beside which no other of the same kind and chunk has as much or more of everything alive, and the first."""
    kept = [
        turn
        for at, turn in enumerate(found)
        if not at or not any(_exceeds(other, turn) for place, other in enumerate(found) if place != at)
    ]
    return tuple(kept)


def highest(found: Turns, alive: Callable[[Turn], int]) -> Turns:
    """Of each kind, chunk and state of that chunk's gradients the one at which most is `alive`, and the first."""
    most: dict[tuple[str, int, str], int] = {}
    for at, turn in enumerate(found):
        kind = (turn.action, turn.chunk, turn.gradients[turn.chunk])
        if kind not in most or alive(turn) > alive(found[most[kind]]):
            most[kind] = at
    return tuple([found[at] for at in sorted({0, *most.values()})])


def _merged(actions: Actions) -> Iterator[Action]:
    """The actions of a rank whose first chunk begins the model."""
    for action, chunk in actions:
        if chunk or action not in {INPUT, WEIGHT}:
            yield action, chunk
        elif action == WEIGHT:
            yield BACKWARD, chunk


def _backwards(actions: Actions, *, last: bool, sharded: bool, widens: bool) -> Iterator[Turn]:
    """Every backward, with what is alive when it begins."""
    chunks = 1 + max(chunk for _, chunk in actions)
    left = [sum(one == chunk and action in {BACKWARD, WEIGHT} for action, one in actions) for chunk in range(chunks)]
    waiting, halves, gradients, passed = [0] * chunks, [0] * chunks, [NONE] * chunks, 0
    for action, chunk in actions:
        if action == FORWARD:
            waiting[chunk] += 1
            continue
        yield Turn(action, chunk, tuple(waiting), tuple(halves), tuple(gradients), passed)
        if action == INPUT:
            halves[chunk] += 1
            passed += not (last and chunk == 1)
        if action == WEIGHT:
            halves[chunk] -= 1
        else:
            waiting[chunk] -= 1
        gradients[chunk] = behind(action, gradients[chunk], widens=widens)
        if action != INPUT:
            left[chunk] -= 1
            if not left[chunk] and sharded:
                gradients[chunk] = REDUCED


def behind(action: str, gradients: str, *, widens: bool) -> str:
    """What there is of the gradients behind an action: a backward through the layers puts fresh ones to those kept."""
    if action == INPUT:
        return gradients if gradients == NONE else KEPT
    if action == WEIGHT and widens:
        return FRESH if gradients in {NONE, FRESH} else BOTH
    return KEPT


def _exceeds(other: Turn, turn: Turn) -> bool:
    """Whether another turn of the same kind has as much alive, and something more, or what comes to the same."""
    if (other.action, other.chunk) != (turn.action, turn.chunk):
        return False
    return all(more >= less for more, less in zip(_amounts(other), _amounts(turn), strict=True))


def _amounts(turn: Turn) -> Sequence[int]:
    return (*turn.waiting, *turn.halves, *map(_LEVELS.index, turn.gradients), turn.passed)
