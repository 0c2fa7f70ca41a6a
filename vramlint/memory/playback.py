"""What is played into the caching allocator: tensors that stay, and the event log of a step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from msgspec.structs import replace

from vramlint.job import Job
from vramlint.memory.allocator import SMALL_LIMIT, SMALL_SEGMENT, CachingAllocator, coarsened
from vramlint.memory.expandable import ExpandableAllocator
from vramlint.memory.handing import roles
from vramlint.memory.holdings import Tensors, total
from vramlint.memory.recorder import BEFORE, Block, Recorder, rounded
from vramlint.memory.timeline import Timeline


class Playback(NamedTuple):
    """What is played: tensors that stay, and the log of a step."""

    resident: Sequence[Tensors]
    blocks: Sequence[Block]
    sizes: Sequence[int]
    once: frozenset[int]
    """Indices that only the first playing allocates."""
    later: frozenset[int]
    """Indices that the first playing does not allocate."""
    times: int
    """How often the log is played until the steady state shows."""
    roles: Mapping[int, int]
    """For what the neighbour below a repeated block makes: the index of the same in the block."""
    allocator: Callable[[], CachingAllocator]
    before: Sequence[Sequence[int]] = ()
    """Bytes of tensors that came and went before the first step, group by group."""
    others: Sequence[Playback] = ()
    """What other CUDA streams allocate, in pools of their own."""

    @classmethod
    def of(
        cls, job: Job, resident: Sequence[Tensors], recorder: Recorder, before: Sequence[Sequence[int]] = ()
    ) -> Playback:
        """The playback of a closed log beside `resident` tensors: twice, or once if it holds the step before."""
        blocks = [block for block in recorder.blocks if block.events]
        resident = [tensors for tensors in resident if tensors.nbytes]
        times = 1 if any(block.phase.startswith(BEFORE) for block in blocks) else 2
        whole = cls(
            resident,
            blocks,
            recorder.sizes,
            frozenset(recorder.once),
            frozenset(recorder.later),
            times,
            {},
            _allocator(job),
        )
        if not recorder.streams:
            return whole._replace(roles=roles(blocks, recorder.sizes), before=before)
        by_stream: defaultdict[str, set[int]] = defaultdict(set)
        for index, stream in recorder.streams.items():
            by_stream[stream].add(index)
        others = [whole.only(indices.__contains__)._replace(resident=()) for indices in by_stream.values()]
        return whole.only(lambda index: index not in recorder.streams)._replace(before=before, others=others)

    @property
    def depth(self) -> int:
        """Repetitions of the block that repeats most often."""
        return max((block.repeat for block in self.blocks), default=1)

    def only(self, wanted: Callable[[int], bool]) -> Playback:
        """The same with the events of `wanted` indices only."""
        blocks = [
            Block(block.phase, block.repeat, [event for event in block.events if wanted(event[0])])
            for block in self.blocks
        ]
        blocks = [block for block in blocks if block.events]
        return self._replace(blocks=blocks, roles=roles(blocks, self.sizes))

    def of_large(self) -> Playback:
        """The same without what goes to the small pool, which shares nothing with the large one."""
        resident = [tensors for tensors in self.resident if tensors.nbytes > SMALL_LIMIT]
        return self.only(lambda index: self.sizes[index] > SMALL_LIMIT)._replace(resident=resident)

    def peak_of_small(self) -> int:
        """Bytes of the small pool at the highest of a later step, in whole segments."""
        divisions = self.allocator().divisions
        sizes = [coarsened(size, divisions) if size <= SMALL_LIMIT else 0 for size in self.sizes]
        held = [tensors for tensors in self.resident if tensors.nbytes <= SMALL_LIMIT]
        there = total(replace(tensors, nbytes=coarsened(tensors.nbytes, divisions)) for tensors in held)
        there += sum(
            rounded(sizes[index]) * count * block.repeat
            for block in self.blocks
            for index, count in block.events
            if index in self.once
        )
        peaks = Timeline(self.blocks, sizes, there, self.once).peaks()
        highest = max((peak.bytes for peak in peaks.values()), default=there)
        return -(-highest // SMALL_SEGMENT) * SMALL_SEGMENT


def _allocator(job: Job) -> Callable[[], CachingAllocator]:
    """What makes the allocator of a job's settings."""
    settings, usable = job.allocator, job.gpu.usable_bytes if job.gpu else 0
    if settings.expandable_segments:
        return partial(ExpandableAllocator, settings.divisions)
    bound = int(settings.garbage_collection_threshold * settings.memory_fraction * usable)
    return partial(CachingAllocator, bound, settings.divisions)
