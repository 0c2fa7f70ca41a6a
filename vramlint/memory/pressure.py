"""A card on which the tensors have room, but perhaps not the segments that they break up.

What the driver no longer gives, torch takes from segments that lie free as a whole; those of which a part is in use it
cannot return (torch 2.13 c10/cuda/CUDACachingAllocator.cpp, release_cached_blocks).
"""

from __future__ import annotations

from functools import partial

from vramlint.memory.allocator import CachingAllocator, LimitedAllocator, OutOfMemory
from vramlint.memory.reserve import Playback, play

CERTAINTY = 1.06
"""Times the room that must not be enough before a run is said to fail: nineteen of twenty traced steps reserve within
six per cent of what the emulation says (bench/accuracy.py, reserved_p95_error)."""
ROUNDS = 5
"""Halvings in the search for the least room."""


def least_room(playback: Playback, room: int, most: int) -> int:
    """The least memory of the allocator, bytes, with which the run surely gets through, if that is more than `room`.

    0 if `room` may do, and where the emulation does not tell: several streams, expandable segments, garbage collection.
    `most` is what it reserves on a card that never ends.
    """
    if playback.others or type(playback.allocator()) is not CachingAllocator or playback.allocator().collect_above:
        return 0
    low, high = int(CERTAINTY * room), most
    if high <= low or _serves(playback, low):
        return 0
    for _ in range(ROUNDS):
        middle = (low + high) // 2
        low, high = (low, middle) if _serves(playback, middle) else (middle, high)
    return int(high / CERTAINTY)


def _serves(playback: Playback, room: int) -> bool:
    try:
        limited = partial(LimitedAllocator, room, playback.allocator().divisions)
        play(playback._replace(allocator=limited), playback.depth)
    except OutOfMemory:
        return False
    return True
