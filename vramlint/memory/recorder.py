"""The event log of a step: which tensor's memory comes and goes, in which order.

Layers repeat. A layer is traced once and its block of events carries a repeat count, so that the log
(and the time to make it) does not grow with the number of layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct, field
from msgspec.structs import replace

BEFORE = "step before "
"""Begins the phases of the step that a hand-written loop's steady state needs before it."""
ALLOCATOR_BLOCK = 512
"""The caching allocator rounds every request up to multiples of this (torch 2.13
c10/core/AllocatorConfig.h, kMinBlockSize)."""


def rounded(nbytes: int) -> int:
    """`nbytes` rounded up to the allocator's block size; at least one block for a non-empty tensor."""
    return -(-nbytes // ALLOCATOR_BLOCK) * ALLOCATOR_BLOCK


Event = tuple[int, int]
"""An index and how many storages of that kind are allocated (positive) or freed (negative)."""


class Label(Struct):
    """What a storage is: the operator that made it, the component it belongs to, its dtype and shape."""

    operator: str
    component: str
    dtype: str
    shape: tuple[int, ...]

    def describe(self) -> str:
        """`silu bfloat16 [2, 1024, 11008]`."""
        return f"{self.operator} {self.dtype} {list(self.shape)}"


class Block(Struct):
    """A stretch of events in one phase, executed `repeat` times in a row."""

    phase: str
    repeat: int = 1
    events: list[Event] = field(default_factory=list)
    layers: Sequence[int] = ()
    """Numbers of the layers that the first repetition runs; none outside layers."""


class Recorder:
    """Collects events into blocks."""

    __slots__ = ("blocks", "component", "events", "labels", "lasting", "later", "once", "phases", "sizes", "streams")

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.labels: list[Label] = []
        self.once: set[int] = set()
        """Indices that only the first step of a run allocates: the optimizer's states."""
        self.later: set[int] = set()
        """Indices that the first step of a run does not allocate yet."""
        self.lasting: list[tuple[str, int]] = []
        """Component and bytes of what is there from the first forward on and stays, besides the model."""
        self.streams: dict[int, str] = {}
        """CUDA streams by index; what is not named was allocated on the current stream."""
        self.blocks: list[Block] = []
        self.phases: list[int] = []
        """Numbers of the blocks with which phases begin."""
        self.events: list[Event] = []
        """Of the block under construction; behind the end of the log nobody's."""
        self.component = "activations"
        """Component of what is allocated now, unless the operator says otherwise."""

    def begin(self, phase: str, repeat: int = 1, layers: Sequence[int] = ()) -> None:
        """Start a new block. What follows happens `repeat` times, first for `layers`."""
        block = Block(phase, repeat, layers=layers)
        self.blocks.append(block)
        self.events = block.events

    def phase(self, name: str) -> None:
        """Start a block of another phase, executed once."""
        self.phases.append(len(self.blocks))
        self.begin(name)

    def repeat(self, count: int, layers: Sequence[int] = ()) -> None:
        """Start a block of the same phase, executed `count` times."""
        self.begin(self.blocks[-1].phase, count, layers)

    @property
    def current_repeat(self) -> int:
        """How often the block under construction is executed."""
        return self.blocks[-1].repeat

    def allocate(self, nbytes: int, label: Label) -> int:
        """Record an allocation of `nbytes` (unrounded) and return its index."""
        index = len(self.sizes)
        self.sizes.append(nbytes)
        self.labels.append(label)
        self.events.append((index, 1))
        return index

    def allocate_once(self, nbytes: int, label: Label) -> None:
        """Record an allocation of `nbytes` that happens in the first step only, and stays."""
        self.once.add(self.allocate(nbytes, label))

    def allocate_many(self, nbytes: int, count: int, label: Label) -> int:
        """Record `count` allocations of `nbytes` each under one index."""
        index = len(self.sizes)
        self.sizes.append(nbytes)
        self.labels.append(label)
        self.events.append((index, count))
        return index

    def note(self, sizes: Sequence[int], labels: Sequence[Label]) -> int:
        """Number allocations whose events are recorded by `repeat_events`; the index of the first of them.

        They share their labels with others: what may become something else gets one of its own by `relabel`.
        """
        index = len(self.sizes)
        self.sizes += sizes
        self.labels += labels
        return index

    def relabel(self, index: int) -> None:
        """Give an allocation a label of its own."""
        self.labels[index] = replace(self.labels[index])

    def repeat_events(self, events: Sequence[Event], first: int, before: int) -> None:
        """Record events of numbers from index `first` on; of ~numbers from index `before` on."""
        self.events += [(first + number if number >= 0 else before + ~number, count) for number, count in events]

    def free(self, index: int, count: int = 1) -> None:
        """Record that `count` storages of kind `index` are freed."""
        self.events.append((index, -count))

    def alive(self, without: str = "") -> int:
        """Bytes that the events so far leave alive, each storage rounded to the allocator's blocks.

        What belongs to the component `without` is left out.
        """
        return sum(
            rounded(self.sizes[index]) * count * block.repeat
            for block in self.blocks
            for index, count in block.events
            if not without or self.labels[index].component != without
        )

    def come_down(self, start: int) -> None:
        """Leave of everything since block number `start` what it comes down to: nothing that came and went."""
        left: Counter[int] = Counter()
        for block in self.blocks[start:]:
            for index, count in block.events:
                left[index] += count * block.repeat
        phase = self.blocks[-1].phase
        del self.blocks[start:]
        self.begin(phase)
        self.events += sorted(
            ((index, count) for index, count in left.items() if count), key=lambda event: event[1] > 0
        )
        self.begin(phase)

    def close(self) -> None:
        """End the log: later deaths of tensors are the simulator's own clean-up."""
        self.events = []
