"""Peak reserved memory: the event log played into the caching allocator.

The steady state inherits the segments of the first step, in which the optimizer's states came into being between
the gradients, so the log is played from the start of the run.

A repeated block of events is played as often as it repeats. Its events name tensors by the index that the traced layer
gave them, which is enough for what a layer frees of its own (each repetition's own) and for what its backward frees of
its forward (the youngest first). What a repetition frees of another one is found by a neighbour of the block: one with
the same events, traced before or behind it. A forward frees what the repetition before it made (the layer's input), a
backward too (the incoming gradient); under checkpointing it also frees what the layer below made in forward.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby, pairwise
from typing import NamedTuple

from vramlint.job import Job
from vramlint.memory.allocator import (
    FREE_OLDEST,
    FREE_YOUNGEST,
    SMALL_LIMIT,
    SMALL_SEGMENT,
    CachingAllocator,
    Operation,
    Pieces,
    coarsened,
    in_blocks,
)
from vramlint.memory.expandable import ExpandableAllocator
from vramlint.memory.holdings import Tensors, total
from vramlint.memory.recorder import BEFORE, Block, Recorder, rounded
from vramlint.memory.timeline import Timeline

DEPTHS = (16, 32)
"""Repetitions of a layer block that are played where there are more than the second number; the rest is extrapolated.
Up to 48 layers that is within 1.2 % of playing all of them, at 64 and 80 layers within 0.5 %."""
LUMP = 1 << 20
"""Many equal small tensors that come at once are played as one of up to so many bytes."""


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
        return self._replace(blocks=blocks, roles=_roles(blocks, self.sizes))

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


class Held(NamedTuple):
    """What the allocator holds at its peak, bytes."""

    reserved: int
    """Segments."""
    unsplit: int
    """What blocks in use have beyond their tensors: the rest of a large block that is too small to be split off."""
    tensors: int = 0
    """What the tensors were at their highest while they were played."""


def settled(playback: Playback) -> int:
    """Bytes of the segments of what stays, before anything else came."""
    allocator = playback.allocator()
    _settle(allocator, playback.resident, playback.depth)
    return allocator.peak


def peak_held(playback: Playback) -> Held:
    """The peak over the run: segments that a stream left empty serve no other one."""
    own = _peak_of_stream(playback)
    return own._replace(reserved=own.reserved + sum(_peak_of_stream(other).reserved for other in playback.others))


def _peak_of_stream(playback: Playback) -> Held:
    repeats = playback.depth
    shallow, deep = DEPTHS
    if repeats <= deep or playback.allocator().collect_above:
        return _held(play(playback, repeats))
    large = playback.of_large()
    first, second = _held(play(large, shallow)), _held(play(large, deep))
    reserved, unsplit, tensors = (
        after + (after - before) * (repeats - deep) // (deep - shallow)
        for before, after in zip(first, second, strict=True)
    )
    return Held(reserved + playback.peak_of_small(), max(0, unsplit), tensors)


def _held(allocator: CachingAllocator) -> Held:
    return Held(allocator.peak, allocator.peak_blocks - allocator.peak_tensors, allocator.peak_tensors)


def play(playback: Playback, depth: int) -> CachingAllocator:
    """Play with every repetition cut to at most `depth`.

    Raises:
        OutOfMemory: the allocator is a limited one, and does not serve all requests.
    """
    allocator = playback.allocator()
    _settle(allocator, playback.resident, depth)
    for sizes in playback.before:
        there: Pieces = []
        allocator.serve([(in_blocks(size), there) for size in sizes])
        allocator.serve([(FREE_OLDEST, there)] * len(sizes))
    alive: list[Pieces] = [[] for _ in playback.sizes]
    tracks = [_track(playback, number, depth, alive) for number in range(len(playback.blocks))]
    for step in range(playback.times):
        for track in tracks:
            for operations in track.first if step == 0 else track.later:
                allocator.serve(operations)
    return allocator


def _settle(allocator: CachingAllocator, resident: Iterable[Tensors], depth: int) -> None:
    """Allocate what stays, repeated layers one after the other."""
    lasting: Pieces = []
    for stretch, found in groupby(resident, key=lambda tensors: tensors.stretch):
        members = list(found)
        if stretch is None:
            allocator.serve([(in_blocks(tensors.nbytes), lasting) for tensors in members for _ in range(tensors.count)])
        else:
            one = [(in_blocks(tensors.nbytes), lasting) for tensors in members]
            allocator.serve(one * min(depth, members[0].count))


class _Track(NamedTuple):
    """A block as it is played: the operations of every repetition, in the first step and in later ones."""

    first: Sequence[Sequence[Operation]]
    later: Sequence[Sequence[Operation]]


def _track(playback: Playback, number: int, depth: int, alive: Sequence[Pieces]) -> _Track:
    block = playback.blocks[number]
    times = min(depth, block.repeat)
    carried = _carried(playback, number) if times > 1 else {}
    handed: dict[int, Pieces] = {position: [] for position in carried.values()}
    roles = playback.roles if times > 1 else {}

    def repetition(*, follows: bool, ends: bool, later: bool) -> list[Operation]:
        operations: list[Operation] = []
        for position, (index, count) in enumerate(block.events):
            pieces, free = alive[index], FREE_YOUNGEST
            if count > 0 and not ends:
                pieces = handed.get(position, pieces)
            elif count < 0 and position in carried:
                if follows:
                    pieces, free = handed[carried[position]], FREE_OLDEST
            elif count < 0 and not ends and index in roles:
                pieces = alive[roles[index]]
            if index not in (playback.once if later else playback.later):
                operations += _operations(playback.sizes[index], count, pieces, free)
        return operations

    def repetitions(*, later: bool) -> list[list[Operation]]:
        if times == 1:
            return [repetition(follows=False, ends=True, later=later)]
        middle = repetition(follows=True, ends=False, later=later) if times > 2 else []
        first, last = (repetition(follows=not at, ends=not at, later=later) for at in (True, False))
        return [first, *[middle] * (times - 2), last]

    played = repetitions(later=False)
    changes = any(index in playback.once or index in playback.later for index, _ in block.events)
    return _Track(played, repetitions(later=True) if changes else played)


def _operations(nbytes: int, count: int, pieces: Pieces, free: int) -> list[Operation]:
    if abs(count) > 1 and rounded(nbytes) * abs(count) <= LUMP:
        nbytes, count = rounded(nbytes) * abs(count), 1 if count > 0 else -1
    return [(in_blocks(nbytes) if count > 0 else free, pieces)] * abs(count) if nbytes else []


def _carried(playback: Playback, number: int) -> dict[int, int]:
    """For every event of a block that frees what its previous repetition allocated: which event allocated it."""
    events = playback.blocks[number].events
    own = _allocations(events)
    for other, comes_before in ((number - 1, True), (number + 1, False)):
        if not 0 <= other < len(playback.blocks):
            continue
        twin = playback.blocks[other].events
        if not _alike(events, twin, playback.sizes):
            continue
        theirs = _allocations(twin)
        freeing, source, kept = (events, theirs, own) if comes_before else (twin, own, theirs)
        return {
            position: source[index]
            for position, (index, count) in enumerate(freeing)
            if count < 0 and index in source and index not in kept
        }
    return _handed_on(playback, number)


def _handed_on(playback: Playback, number: int) -> dict[int, int]:
    """The same where no neighbour has the same events: what the block frees of the one before it, and the next of it.

    The layer at an end may free what all layers shared besides, or make with another operator what it hands on.
    """
    before, block, after = (playback.blocks[at : at + 1] for at in (number - 1, number, number + 1))
    if not (number and before and after):
        return {}
    own, theirs = _allocations(block[0].events), _allocations(before[0].events)
    taken = [
        (position, playback.sizes[index])
        for position, (index, count) in enumerate(block[0].events)
        if count < 0 and index in theirs and index not in own
    ]
    given = [(own[index], playback.sizes[index]) for index, count in after[0].events if count < 0 and index in own]
    if [size for _, size in taken] == [size for _, size in given]:
        return {position: source for (position, _), (source, _) in zip(taken, given, strict=True)}
    return _replaced(taken, _kept(playback, number))


def _kept(playback: Playback, number: int) -> list[tuple[int, int]]:
    """(position, bytes) of what a block allocates and does not free."""
    events = playback.blocks[number].events
    own = _allocations(events)
    return [(own[index], playback.sizes[index]) for index in _left(events)]


def _left(events: Sequence[tuple[int, int]]) -> list[int]:
    """What events allocate and do not free."""
    freed = {index for index, count in events if count < 0}
    return [index for index in _allocations(events) if index not in freed]


def _replaced(taken: Sequence[tuple[int, int]], kept: Sequence[tuple[int, int]]) -> dict[int, int]:
    """What is taken from the repetition before, where each of them leaves as many tensors of the same sizes.

    So are sums of the gradients of weights that layers share, which nobody behind the last repetition replaces.
    """
    by_size: defaultdict[int, list[int]] = defaultdict(list)
    for position, size in kept:
        by_size[size].append(position)
    wanted = Counter(size for _, size in taken)
    if any(len(by_size[size]) != count for size, count in wanted.items()):
        return {}
    return {position: by_size[size].pop(0) for position, size in taken}


def _roles(blocks: Sequence[Block], sizes: Sequence[int]) -> dict[int, int]:
    roles: dict[int, int] = {}
    for below, block in pairwise(blocks):
        if block.repeat <= 1:
            continue
        if _alike(block.events, below.events, sizes):
            pairs = zip(below.events, block.events, strict=True)
            roles.update((theirs, own) for (theirs, count), (own, _) in pairs if count > 0)
            continue
        theirs, own = _left(below.events), _left(block.events)  # what is gathered meanwhile may differ
        if [sizes[index] for index in theirs] == [sizes[index] for index in own]:
            roles.update(zip(theirs, own, strict=True))
    return roles


def _allocations(events: Sequence[tuple[int, int]]) -> dict[int, int]:
    return {index: position for position, (index, count) in enumerate(events) if count > 0}


def _alike(events: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]], sizes: Sequence[int]) -> bool:
    return len(events) == len(others) and all(
        count == other_count and sizes[index] == sizes[other]
        for (index, count), (other, other_count) in zip(events, others, strict=True)
    )
