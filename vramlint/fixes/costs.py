"""What plans cost, and which of two is better."""

from __future__ import annotations

from math import ceil, log

from msgspec import Struct

Key = tuple[float, ...]
ALIKE = 1.05
"""Times of a step that differ by less than this factor count as equal."""
FAR = 1.5
"""A step that takes longer than this costs as much as other numerics do, and somewhat more."""
DEARER = 1.5


class Cost(Struct, frozen=True):
    """What a plan costs."""

    alters: int
    altering: int
    """How many of its changes alter the result."""
    factor: float
    """Time of a step over that before."""
    edits: int

    @property
    def slower(self) -> int:
        """The factor in steps of `ALIKE`; what is quicker is not better than what is as quick."""
        return max(0, ceil(log(self.factor) / log(ALIKE) - 0.5)) if self.factor > 1 else 0

    @property
    def depth(self) -> float:
        """How far it goes into the result, far slower steps counted as going in, too."""
        return self.alters + (DEARER if self.factor > FAR else 0)


def by_result(cost: Cost) -> Key:
    """The mathematics first, then time, then edits."""
    return cost.depth, cost.altering, cost.slower, cost.edits, cost.factor


def by_time(cost: Cost) -> Key:
    """Time first."""
    return cost.slower, cost.depth, cost.altering, cost.edits, cost.factor


def by_edits(cost: Cost) -> Key:
    """The fewest edits first."""
    return cost.edits, cost.depth, cost.altering, cost.slower, cost.factor
