"""A card on which the tensors have room, but perhaps not the segments that they break up.

What the driver no longer gives, torch takes from segments that lie free as a whole; those of which a part is in use it
cannot return (torch 2.13 c10/cuda/CUDACachingAllocator.cpp, release_cached_blocks). Expandable segments return all
pages in which nothing lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from vramlint.memory.allocator import CachingAllocator, LimitedAllocator, OutOfMemory
from vramlint.memory.expandable import ExpandableAllocator, LimitedExpandable
from vramlint.memory.playback import Playback
from vramlint.memory.score import Score

CERTAINTY = 1.06
"""Times the room that must not be enough before a run is said to fail: nineteen of twenty traced steps reserve within
six per cent of what the emulation says (bench/accuracy.py, reserved_p95_error)."""
ROUNDS = 5
"""Halvings in the search for the least room."""
_LIMITED: Mapping[type[CachingAllocator], type[LimitedAllocator | LimitedExpandable]] = MappingProxyType(
    {CachingAllocator: LimitedAllocator, ExpandableAllocator: LimitedExpandable}
)


class Pressure(Struct, frozen=True):
    """What segments that cannot be given back ask of a card."""

    least: int = 0
    """Bytes of the allocator with which the run surely gets through, if the card surely has too few; else 0."""
    tight: bool = False
    """The emulated run does not get through, if perhaps by less than the emulation's own error."""


def pressure_of(playback: Playback, room: int, most: int) -> Pressure:
    """Whether a run whose tensors have `room` bytes gets through with its segments.

    Nothing is said where the emulation does not tell: several streams, garbage collection. `most` is what the run
    reserves on a card that never ends.
    """
    endless = playback.allocator()
    if playback.others or endless.collect_above or most <= room:
        return Pressure()
    score = Score.of(playback, playback.depth)
    if _serves(score, endless, room):
        return Pressure()
    low, high = int(CERTAINTY * room), most
    if high <= low or _serves(score, endless, low):
        return Pressure(tight=True)
    for _ in range(ROUNDS):
        middle = (low + high) // 2
        low, high = (low, middle) if _serves(score, endless, middle) else (middle, high)
    return Pressure(int(high / CERTAINTY), tight=True)


def _serves(score: Score, endless: CachingAllocator, room: int) -> bool:
    """Whether a card of `room` bytes gets through, with the settings of an allocator without an end."""
    try:
        score.play(_LIMITED[type(endless)](room, endless.divisions))
    except OutOfMemory:
        return False
    return True
