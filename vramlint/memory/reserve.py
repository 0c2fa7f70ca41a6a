"""Peak reserved memory: the event log played into the caching allocator.

The steady state inherits the segments of the first step, in which the optimizer's states did not exist yet, so the log
is played twice with the states allocated in between. Reserved memory grows linearly with the number of
layers once there are a few, so two shallow versions of the run are played and the line through them is followed.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from vramlint.memory.allocator import CachingAllocator, Piece
from vramlint.memory.recorder import Block, Recorder
from vramlint.memory.sharding import Tensors

DEPTHS = (16, 32)
"""Repetitions of a layer block that are played; more are extrapolated."""


class Playback(NamedTuple):
    """What is played: (bytes, count) of tensors that stay, and the log of a step."""

    weights: Sequence[tuple[int, int]]
    states: Sequence[tuple[int, int]]
    """They come with the first optimizer step."""
    blocks: Sequence[Block]
    sizes: Sequence[int]

    @classmethod
    def of(cls, persistent: Iterable[Tensors], recorder: Recorder) -> Playback:
        """The playback of a closed log beside `persistent` tensors."""
        late = {"optimizer states"}
        tensors = [tensor for tensor in persistent if tensor.nbytes]
        return cls(
            [(tensor.nbytes, tensor.count) for tensor in tensors if tensor.component not in late],
            [(tensor.nbytes, tensor.count) for tensor in tensors if tensor.component in late],
            recorder.blocks,
            recorder.sizes,
        )


def peak_reserved(playback: Playback) -> int:
    """Peak of reserved memory in the steady state, bytes."""
    repeats = max((block.repeat for block in playback.blocks), default=1)
    shallow, deep = DEPTHS
    if repeats <= deep:
        return _play(playback, repeats, repeats)
    first = _play(playback, shallow, repeats)
    second = _play(playback, deep, repeats)
    return second + (second - first) * (repeats - deep) // (deep - shallow)


def _play(playback: Playback, depth: int, repeats: int) -> int:
    """Play with every block and tensor that occurs `repeats` times reduced to `depth` times."""
    allocator = CachingAllocator()

    def scaled(count: int) -> int:
        return count if repeats == depth or count < repeats else count - (repeats - depth) * (count // repeats)

    def persist(tensors: Iterable[tuple[int, int]]) -> None:
        for nbytes, count in tensors:
            for _ in range(scaled(count)):
                allocator.allocate(nbytes)

    persist(playback.weights)
    live: list[deque[Piece]] = [deque() for _ in playback.sizes]
    tracks = [_track(block, playback.sizes, live, scaled) for block in playback.blocks]
    for step in range(2):
        for track in tracks:
            for _ in range(track.repeat):
                _replay(allocator, track)
        if step == 0:
            persist(playback.states)
    return allocator.reserved


class _Track(NamedTuple):
    """A block as it is played."""

    repeat: int
    events: Sequence[tuple[int, int, deque[Piece]]]
    """(count, bytes, the living tensors of that index)."""
    results: Mapping[int, Sequence[deque[Piece]]]
    """The living tensors of the indices that the block allocates, in its order, by bytes."""


def _track(block: Block, sizes: Sequence[int], live: Sequence[deque[Piece]], scaled: Callable[[int], int]) -> _Track:
    events: list[tuple[int, int, deque[Piece]]] = []
    results: defaultdict[int, list[deque[Piece]]] = defaultdict(list)
    for index, count in block.events:
        if count > 0:
            results[sizes[index]].append(live[index])
        events.append((scaled(count) if count > 0 else -scaled(-count), sizes[index], live[index]))
    return _Track(scaled(block.repeat), events, results)


def _replay(allocator: CachingAllocator, track: _Track) -> None:
    allocate, release = allocator.allocate, allocator.release
    for count, nbytes, pieces in track.events:
        if count > 0:
            for _ in range(count):
                pieces.append(allocate(nbytes))
        else:
            for _ in range(-count):
                piece = pieces.pop() if pieces else _handed_on(track, nbytes)
                if piece is not None:
                    release(piece)


def _handed_on(track: _Track, nbytes: int) -> Piece | None:
    """The tensor of a later repetition of the block that plays the role of one of the first.

    What a repeated layer frees of its predecessor (its input, its incoming gradient) is known by the index that
    the first predecessor gave it; the later ones' are the block's own results of that size.
    """
    return next((pieces.popleft() for pieces in track.results.get(nbytes, ()) if pieces), None)
