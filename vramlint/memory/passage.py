"""What a function of tensors allocates and frees, noted down so that it can be recorded again.

A passage numbers the memory that it allocates itself from 0 on, in order. Memory that others may refer to as well, its
results' and that of the tensors that it was given, has a place: its own number, or ~number of the tensor given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from vramlint.estimate import Work
from vramlint.memory.recorder import Label, Recorder
from vramlint.memory.tensor import Node, Shape, Storage, Tensor
from vramlint.memory.work import BACKWARD, FORWARD, RECOMPUTED, Meter


class Kind(NamedTuple):
    """All of a tensor that decides what operators do with it."""

    shape: Shape
    dtype: str
    requires_grad: bool
    heads_first: bool
    view: bool
    memory: int | None
    """Number of the first of the tensors given together that lies in the same memory; None without any."""


def kinds_of(tensors: Sequence[Tensor | None]) -> tuple[Kind | None, ...]:
    """The kinds of tensors that are given together."""
    first: dict[int, int] = {}
    return tuple([None if x is None else _kind(x, number, first) for number, x in enumerate(tensors)])


def _kind(x: Tensor, number: int, first: dict[int, int]) -> Kind:
    memory = None if x.storage is None else first.setdefault(id(x.storage), number)
    return Kind(x.shape, x.dtype, x.requires_grad, x.heads_first, x.view, memory)


class Made(Struct, frozen=True):
    """A tensor that comes out."""

    shape: Shape
    dtype: str
    requires_grad: bool
    heads_first: bool
    view: bool
    place: int | None
    first: int
    """Number of the first result that is the same tensor."""


Events = Sequence[tuple[int, int]]
"""(number, count) of what the passage allocates, (~number, count) of what it frees of the passage before it."""


class Passage(NamedTuple):
    """One run of the function, or of its derivative."""

    sizes: Sequence[int]
    labels: Sequence[Label]
    runs: Sequence[tuple[Events, int | None]]
    """Events, and the place of the memory that is referred to no more after them."""
    work: Sequence[Work]
    made: Sequence[Made | None]
    held: Sequence[Made]
    """Tensors that the caller has to hold until it returns."""
    left: Sequence[int]
    """Numbers of what is kept for the derivative: of a derivative, what that has not freed of it."""
    shared: Sequence[int]
    """Places of what is kept for it and that others may refer to as well."""
    saves: bool = False
    """Whether it saves anything where a checkpoint is around it."""


class Holding:
    """What a passage keeps for the derivative; freed with it where nobody differentiates."""

    __slots__ = ("base", "differentiated", "left", "recorder", "shared", "whole")

    def __init__(self, recorder: Recorder, base: int, left: Sequence[int], shared: dict[int, Storage]) -> None:
        self.recorder = recorder
        self.base = base
        self.left = left
        self.shared = shared
        self.differentiated = False
        self.whole = True
        """Whether what further results alone need of it is there."""

    def release(self) -> None:
        """Free it all."""
        left, self.left = self.left, ()
        for number in left:
            self.recorder.free(self.base + number)
        self.shared.clear()

    def __del__(self) -> None:
        for number in self.left:
            self.recorder.free(self.base + number)


class Rest:
    """The graph of further results: it keeps that of the first, and what they alone need."""

    __slots__ = ("beside", "holding", "passage")

    def __init__(self, beside: Node, holding: Holding, passage: Passage) -> None:
        self.beside = beside
        self.holding = holding
        self.passage = passage

    def __del__(self) -> None:
        holding = self.holding
        if holding.differentiated:
            holding.release()
        else:
            record(holding.recorder, self.passage, {}, holding)
            holding.whole = False


class Recorded(Struct, frozen=True):
    """A passage as it was recorded."""

    holding: Holding
    made: list[Tensor | None]
    held: list[Tensor]


def record(
    recorder: Recorder,
    passage: Passage,
    given: dict[int, Storage],
    before: Holding | None = None,
) -> Recorded:
    """Record a passage again: a forward one over memory that is `given`, or the derivative of what `before` has kept.

    References in `given` and in `before` go when the passage's own would.
    """
    base = recorder.note(passage.sizes, passage.labels)
    kept = before.shared if before is not None else {}
    for events, place in passage.runs:
        recorder.repeat_events(events, base, before.base if before is not None else 0)
        if place is not None:
            del (given if place in given else kept)[place]
    if before is not None:
        before.left = passage.left
    own = {made.place for made in (*passage.made, *passage.held) if made is not None and made.place is not None}
    storages = {place: _shared(recorder, base + place) for place in sorted(own) if place >= 0}
    shared = {place: storages[place] if place >= 0 else given[place] for place in passage.shared}
    holding = Holding(recorder, base, passage.left if before is None else (), shared)
    made = _tensors(passage.made, storages, {**kept, **given})
    held = [tensor for tensor in _tensors(passage.held, storages, given) if tensor is not None]
    return Recorded(holding, made, held)


def _shared(recorder: Recorder, index: int) -> Storage:
    """Memory that is recorded already and that tensors refer to."""
    recorder.relabel(index)
    return Storage.adopted(recorder, index)


def _tensors(
    found: Sequence[Made | None], own: Mapping[int, Storage], given: Mapping[int, Storage]
) -> list[Tensor | None]:
    tensors: list[Tensor | None] = []
    for number, made in enumerate(found):
        if made is None or made.first < number:
            tensors.append(None if made is None else tensors[made.first])
            continue
        storage = None if made.place is None else own[made.place] if made.place >= 0 else given[made.place]
        tensor = Tensor(made.shape, made.dtype, storage)
        tensor.requires_grad, tensor.heads_first, tensor.view = made.requires_grad, made.heads_first, made.view
        tensors.append(tensor)
    return tensors


def count_work(meter: Meter, work: Sequence[Work], *, times: int, layers: bool, differentiating: bool) -> None:
    """Count what a passage computes; a forward one that runs during backward is recomputation."""
    for item in work:
        part = item.part if item.part == BACKWARD else RECOMPUTED if differentiating else FORWARD
        meter.add(part, item.kind, item.dtype, item.flops * times, layers=layers)
