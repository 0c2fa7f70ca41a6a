"""Reading the event log: peaks per phase, and what is alive at the highest point.

The bytes alive are a running sum over the events. A block that repeats n times with net change d and
highest prefix m peaks at `before + max(0, (n - 1) * d) + m`, so repeated layers cost nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from copy import copy
from itertools import accumulate
from operator import itemgetter

from msgspec import Struct

from vramlint.memory.recorder import ALLOCATOR_BLOCK, Block


class Peak(Struct, frozen=True):
    """The highest point of a stretch: bytes, and where it is."""

    bytes: int
    block: int
    repetition: int
    event: int
    """Number of events of that repetition up to and including the highest."""


class Timeline:
    """The log of a step over a base that is alive all the time.

    `sizes` are the rounded bytes by index, `base` the bytes alive before the first event. Indices in `left_out` do
    not count: in the steady state what the first step alone allocates is a part of the base.
    """

    __slots__ = ("_extents", "base", "blocks", "sizes")

    def __init__(
        self, blocks: Sequence[Block], requested: Iterable[int], base: int, left_out: Iterable[int] = ()
    ) -> None:
        self.blocks = blocks
        self.sizes = [-(-size // ALLOCATOR_BLOCK) * ALLOCATOR_BLOCK for size in requested]
        for index in left_out:
            self.sizes[index] = 0
        self.base = base
        self._extents = [self._extent(block) for block in blocks]

    def beside(self, base: int, left_out: Set[int]) -> Timeline:
        """The same log over another base and without `left_out`, where this one leaves out nothing."""
        other = copy(self)
        other.base = base
        if not left_out:
            return other
        other.sizes = self.sizes.copy()
        for index in left_out:
            other.sizes[index] = 0
        other._extents = [
            extent if left_out.isdisjoint(map(itemgetter(0), block.events)) else other._extent(block)
            for block, extent in zip(self.blocks, self._extents, strict=True)
        ]
        return other

    def _extent(self, block: Block) -> tuple[int, int, int]:
        """(net change, highest prefix, number of events up to it) of one repetition of a block."""
        sizes = self.sizes
        levels = list(accumulate([sizes[index] * count for index, count in block.events]))
        highest = max(levels, default=0)
        if highest <= 0:
            return levels[-1] if levels else 0, 0, 0
        return levels[-1], highest, levels.index(highest) + 1

    def peaks(self) -> dict[str, Peak]:
        """The highest point of every phase, phases in order of appearance."""
        result: dict[str, Peak] = {}
        alive = self.base
        for number, (block, extent) in enumerate(zip(self.blocks, self._extents, strict=True)):
            net, highest, position = extent
            repetition = block.repeat - 1 if net > 0 else 0
            top = alive + max(0, net * (block.repeat - 1)) + highest
            known = result.get(block.phase)
            if known is None or top > known.bytes:
                result[block.phase] = Peak(top, number, repetition, position)
            alive += net * block.repeat
        return result

    def levels(self) -> Iterator[tuple[str, int]]:
        """(phase, bytes alive before it) for every block."""
        alive = self.base
        for block, extent in zip(self.blocks, self._extents, strict=True):
            yield block.phase, alive
            alive += extent[0] * block.repeat

    def alive_at(self, peak: Peak) -> dict[int, int]:
        """Bytes alive at a peak of every index that has any."""
        counts = [0] * len(self.sizes)
        for number in range(peak.block):
            block = self.blocks[number]
            times = block.repeat
            for index, count in block.events:
                counts[index] += count * times
        events = self.blocks[peak.block].events
        for index, count in events if peak.repetition else ():
            counts[index] += count * peak.repetition
        for index, count in events[: peak.event]:
            counts[index] += count
        sizes = self.sizes
        return {index: sizes[index] * count for index, count in enumerate(counts) if count}


def summed(alive: Mapping[int, int], name: Callable[[int], str]) -> dict[str, int]:
    """Bytes by name, largest first, where `name(index)` names a storage."""
    totals: defaultdict[str, int] = defaultdict(int)
    for index, size in alive.items():
        totals[name(index)] += size
    return dict(sorted(totals.items(), key=lambda item: -item[1]))
