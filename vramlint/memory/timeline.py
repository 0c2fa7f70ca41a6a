"""Reading the event log: peaks per phase, and what is alive at the highest point.

The bytes alive are a running sum over the events. A block that repeats n times with net change d and
highest prefix m peaks at `before + max(0, (n - 1) * d) + m`, so repeated layers cost nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from vramlint.memory.recorder import Block, Recorder, rounded


@dataclass(frozen=True, slots=True)
class Peak:
    """The highest point of a stretch: bytes, and where it is."""

    bytes: int
    block: int
    repetition: int
    event: int
    """Number of events of that repetition up to and including the highest."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The log of a step over a base that is alive all the time."""

    blocks: Sequence[Block]
    sizes: Sequence[int]
    """Rounded bytes by index."""
    requested: Sequence[int]
    base: int
    """Bytes alive before the first event."""

    @classmethod
    def of(cls, recorder: Recorder, base: int) -> Timeline:
        """The timeline of a closed log."""
        return cls(recorder.blocks, [rounded(size) for size in recorder.sizes], recorder.sizes, base)

    def _extent(self, block: Block) -> tuple[int, int, int]:
        """(net change, highest prefix, number of events up to it) of one repetition of a block."""
        sizes = self.sizes
        total = highest = position = 0
        for number, (index, count) in enumerate(block.events, 1):
            total += sizes[index] * count
            if total > highest:
                highest, position = total, number
        return total, highest, position

    def peaks(self) -> dict[str, Peak]:
        """The highest point of every phase, phases in order of appearance."""
        result: dict[str, Peak] = {}
        alive = self.base
        for number, block in enumerate(self.blocks):
            net, highest, position = self._extent(block)
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
        for block in self.blocks:
            yield block.phase, alive
            alive += self._extent(block)[0] * block.repeat

    def alive_at(self, peak: Peak) -> Counter[int]:
        """How many storages of every index are alive at a peak."""
        alive: Counter[int] = Counter()
        for number in range(peak.block):
            block = self.blocks[number]
            for index, count in block.events:
                alive[index] += count * block.repeat
        events = self.blocks[peak.block].events
        for index, count in events:
            alive[index] += count * peak.repetition
        for index, count in events[: peak.event]:
            alive[index] += count
        return alive


def summed(alive: Counter[int], timeline: Timeline, names: Sequence[str]) -> dict[str, int]:
    """Bytes alive by name, where `names[index]` names a storage."""
    totals: defaultdict[str, int] = defaultdict(int)
    for index, count in alive.items():
        if count:
            totals[names[index]] += timeline.sizes[index] * count
    return {name: total for name, total in totals.items() if total}


def flattened(blocks: Iterable[Block]) -> Iterator[tuple[int, int, int]]:
    """Every single event in order as (repetition, index, count)."""
    for block in blocks:
        for repetition in range(block.repeat):
            for index, count in block.events:
                yield repetition, index, count
