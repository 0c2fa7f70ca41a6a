"""Peak reserved memory: the event log played into the caching allocator.

The steady state inherits the segments of the first step, in which the optimizer's states did not exist yet, so the log
is played twice with the states allocated in between. Reserved memory grows linearly with the number of
layers once there are a few, so two shallow versions of the run are played and the line through them is followed.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vramlint.memory.allocator import CachingAllocator, Piece
from vramlint.memory.recorder import Block, Recorder
from vramlint.memory.sharding import Tensors

DEPTHS = (8, 16)
"""Repetitions of a layer block that are played; more are extrapolated."""


@dataclass(frozen=True, slots=True)
class Playback:
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
    live: defaultdict[int, deque[Piece]] = defaultdict(deque)
    for step in range(2):
        for block in playback.blocks:
            for _ in range(scaled(block.repeat)):
                _replay(allocator, live, block, playback, scaled)
        if step == 0:
            persist(playback.states)
    return allocator.reserved


def _replay(
    allocator: CachingAllocator,
    live: defaultdict[int, deque[Piece]],
    block: Block,
    playback: Playback,
    scaled: Callable[[int], int],
) -> None:
    sizes = playback.sizes
    for index, count in block.events:
        if count > 0:
            pieces = live[index]
            for _ in range(scaled(count)):
                pieces.append(allocator.allocate(sizes[index]))
        else:
            for _ in range(scaled(-count)):
                pieces = live[index]
                piece = pieces.pop() if pieces else _handed_on(live, block, sizes, index)
                if piece is not None:
                    allocator.release(piece)


def _handed_on(live: defaultdict[int, deque[Piece]], block: Block, sizes: Sequence[int], index: int) -> Piece | None:
    """The tensor that plays the role of `index` in a later repetition of `block`.

    What a repeated layer frees of its predecessor (its input, its incoming gradient) is known by the index that
    the first predecessor gave it; the later ones' are the block's own results of that size.
    """
    for other, count in block.events:
        if count > 0 and sizes[other] == sizes[index] and live[other]:
            return live[other].popleft()
    return None
