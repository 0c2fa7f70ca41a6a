"""What one repetition of a block of events frees of another one.

A repeated block of events is played as often as it repeats. Its events name tensors by the index that the traced layer
gave them, which is enough for what a layer frees of its own (each repetition's own) and for what its backward frees of
its forward (the youngest first). What a repetition frees of another one is found by a neighbour of the block: one with
the same events, traced before or behind it. A forward frees what the repetition before it made (the layer's input), a
backward too (the incoming gradient); under checkpointing it also frees what the layer below made in forward.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

from vramlint.memory.recorder import Block


def carried(blocks: Sequence[Block], sizes: Sequence[int], number: int) -> dict[int, int]:
    """For every event of a block that frees what its previous repetition allocated: which event allocated it."""
    events = blocks[number].events
    own = _allocations(events)
    for other, comes_before in ((number - 1, True), (number + 1, False)):
        if not 0 <= other < len(blocks):
            continue
        twin = blocks[other].events
        if not _alike(events, twin, sizes):
            continue
        theirs = _allocations(twin)
        freeing, source, kept = (events, theirs, own) if comes_before else (twin, own, theirs)
        return {
            position: source[index]
            for position, (index, count) in enumerate(freeing)
            if count < 0 and index in source and index not in kept
        }
    return _handed_on(blocks, sizes, number)


def _handed_on(blocks: Sequence[Block], sizes: Sequence[int], number: int) -> dict[int, int]:
    """The same where no neighbour has the same events: what the block frees of the one before it, and the next of it.

    The layer at an end may free what all layers shared besides, or make with another operator what it hands on.
    """
    before, block, after = (blocks[at : at + 1] for at in (number - 1, number, number + 1))
    if not (number and before and after):
        return {}
    own, theirs = _allocations(block[0].events), _allocations(before[0].events)
    taken = [
        (position, sizes[index])
        for position, (index, count) in enumerate(block[0].events)
        if count < 0 and index in theirs and index not in own
    ]
    given = [(own[index], sizes[index]) for index, count in after[0].events if count < 0 and index in own]
    if [size for _, size in taken] == [size for _, size in given]:
        return {position: source for (position, _), (source, _) in zip(taken, given, strict=True)}
    return _replaced(taken, _kept(blocks, sizes, number))


def _kept(blocks: Sequence[Block], sizes: Sequence[int], number: int) -> list[tuple[int, int]]:
    """(position, bytes) of what a block allocates and does not free."""
    events = blocks[number].events
    own = _allocations(events)
    return [(own[index], sizes[index]) for index in _left(events)]


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


def roles(blocks: Sequence[Block], sizes: Sequence[int]) -> dict[int, int]:
    """For what the neighbour below a repeated block makes: the index of the same in the block."""
    found: dict[int, int] = {}
    for below, block in pairwise(blocks):
        if block.repeat <= 1:
            continue
        if _alike(block.events, below.events, sizes):
            pairs = zip(below.events, block.events, strict=True)
            found.update((theirs, own) for (theirs, count), (own, _) in pairs if count > 0)
            continue
        theirs, own = _left(below.events), _left(block.events)  # what is gathered meanwhile may differ
        if [sizes[index] for index in theirs] == [sizes[index] for index in own]:
            found.update(zip(theirs, own, strict=True))
    return found


def _allocations(events: Sequence[tuple[int, int]]) -> dict[int, int]:
    return {index: position for position, (index, count) in enumerate(events) if count > 0}


def _alike(events: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]], sizes: Sequence[int]) -> bool:
    return len(events) == len(others) and all(
        count == other_count and sizes[index] == sizes[other]
        for (index, count), (other, other_count) in zip(events, others, strict=True)
    )
