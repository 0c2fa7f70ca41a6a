"""Peak reserved memory: the event log played into the caching allocator.

The steady state inherits the segments of the first step, in which the optimizer's states came into being between
the gradients, so the log is played from the start of the run.

handing.py tells what repetitions of a block free of one another.
"""

from __future__ import annotations

from typing import NamedTuple

from vramlint.memory.allocator import CachingAllocator
from vramlint.memory.playback import Playback
from vramlint.memory.score import Score, settle

DEPTHS = (16, 32)
"""Repetitions of a layer block that are played where there are more than the second number; the rest is extrapolated.
Up to 48 layers that is within 1.2 % of playing all of them, at 64 and 80 layers within 0.5 %."""


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
    return settle(playback).peak


def peak_held(playback: Playback) -> Held:
    """The peak over the run: segments that a stream left empty serve no other one."""
    own = _peak_of_stream(playback)
    return own._replace(reserved=own.reserved + sum(_peak_of_stream(other).reserved for other in playback.others))


def _peak_of_stream(playback: Playback) -> Held:
    repeats = playback.depth
    shallow, deep = DEPTHS
    if repeats <= shallow + deep or playback.allocator().collect_above:  # all at once takes no longer than the two
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
    Score.of(playback, depth).play(allocator)
    return allocator
