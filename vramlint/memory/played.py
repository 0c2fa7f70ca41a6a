"""What came of logs that were played into the allocator: runs that allocate the same are played once.

Jobs that differ in the host's part alone (an offloaded optimizer's name, the dtype in which weights are loaded) log the
same on the device, and so does a plan whose edited files are read again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

from vramlint.memory import pressure, reserve
from vramlint.memory.playback import Playback
from vramlint.memory.pressure import Pressure
from vramlint.memory.reserve import Held

Outcome = TypeVar("Outcome")

MOST_KEPT = 32
"""Playbacks that are remembered, of some ten thousand events each."""
_held: dict[Hashable, Held] = {}
_pressures: dict[Hashable, Pressure] = {}
_settled: dict[Hashable, int] = {}


def peak_held(playback: Playback) -> Held:
    """What `reserve.peak_held` says."""
    return _remembered(_held, (_content(playback), reserve.DEPTHS), lambda: reserve.peak_held(playback))


def pressure_of(playback: Playback, room: int, most: int) -> Pressure:
    """What `pressure.pressure_of` says."""
    if most <= room:
        return Pressure()
    key = (_content(playback), room, most)
    return _remembered(_pressures, key, lambda: pressure.pressure_of(playback, room, most))


def settled(playback: Playback) -> int:
    """What `reserve.settled` says: the same for all that leaves the model and its states as they are."""
    return _remembered(_settled, (_staying(playback), playback.depth), lambda: reserve.settled(playback))


def forget() -> None:
    """Let everything be played anew."""
    for kept in (_held, _pressures, _settled):
        kept.clear()


def _remembered(kept: dict[Hashable, Outcome], key: Hashable, play: Callable[[], Outcome]) -> Outcome:
    if key not in kept:
        while len(kept) >= MOST_KEPT:
            del kept[next(iter(kept))]
        kept[key] = play()
    return kept[key]


def _content(playback: Playback) -> Hashable:
    """All that decides what is served; roles follow from blocks and sizes."""
    return (
        _staying(playback),
        tuple([(block.repeat, tuple(block.events)) for block in playback.blocks]),
        tuple(playback.sizes),
        playback.once,
        playback.later,
        playback.times,
        tuple(map(tuple, playback.before)),
        tuple(map(_content, playback.others)),
    )


def _staying(playback: Playback) -> Hashable:
    """The allocator's settings, and what it holds all the time."""
    allocator = playback.allocator()
    resident = tuple([(tensors.nbytes, tensors.count, tensors.stretch) for tensors in playback.resident])
    return (type(allocator), allocator.collect_above, allocator.divisions, resident)
