"""The memory of one non-reentrant checkpoint (torch 2.13 torch/utils/checkpoint.py, _CheckpointFrame)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Protocol
from weakref import ReferenceType, ref

from msgspec import Struct

from vramlint.job import Checkpointing
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.tensor import Node, Shape, Tensor

Inputs = Sequence["Tensor | None"]
"""The positional arguments of a layer that are tensors, or could be."""
Segment = Callable[..., tuple[Tensor, ...]]
"""What a checkpoint runs, usually one layer: `Inputs` in, tensors out."""
Results = tuple[Tensor, Sequence[Tensor]]
"""An operator's output and what else it yields."""
KEPT_BY_SELECTION = frozenset({"flash attention", "efficient attention", "reduce scatter", "kept all to all"})
"""Operators whose results op-level selective checkpointing always keeps (torchtitan 0.3 activation_checkpoint.py)."""
PRODUCT, PRODUCT_INPUTS = "linear", 2
"""A matrix product without bias (aten.mm): of these every second result is kept."""


class Recomputer(Protocol):
    """Who runs a layer again."""

    def recomputing(self, frame: Frame) -> AbstractContextManager[None]:
        """A context in which what the layer saves goes to `frame`."""

    def empty(self, shape: Shape, dtype: str, operator: str, component: str | None = None) -> Tensor:
        """A new tensor."""


class Like(Struct, frozen=True):
    """A tensor that waits in host memory."""

    shape: Shape
    dtype: str
    requires_grad: bool
    heads_first: bool

    @classmethod
    def of(cls, tensor: Tensor | None) -> Like | None:
        """The tensor without its memory."""
        if tensor is None:
            return None
        return cls(tensor.shape, tensor.dtype, tensor.requires_grad, tensor.heads_first)

    def new(self, tape: Recomputer) -> Tensor:
        """The tensor, back on the device."""
        tensor = tape.empty(self.shape, self.dtype, "from host")
        tensor.requires_grad, tensor.heads_first = self.requires_grad, self.heads_first
        return tensor


class Sink(Protocol):
    """Where recomputed tensors go."""

    @property
    def selection(self) -> Selection | None:
        """Results kept from the forward."""

    def keep(self, tensors: Sequence[Tensor]) -> None:
        """Take them."""


class Discarded:
    """Takes nothing."""

    selection: Selection | None = None

    def keep(self, tensors: Sequence[Tensor]) -> None:
        """Let them go."""


class StopRecomputation(Exception):  # noqa: N818  no error: it ends a recomputation early
    """The last saved tensor has been recomputed: the rest of the layer is not run again."""


class Selection:
    """Results that selective checkpointing keeps from the forward for the recomputation."""

    __slots__ = ("_products", "kept")

    def __init__(self) -> None:
        self.kept: list[Results] = []
        self._products = 0

    def chooses(self, operator: str, inputs: int) -> bool:
        """Whether the results of the next operator are kept."""
        if operator in KEPT_BY_SELECTION:
            return True
        if operator != PRODUCT or inputs != PRODUCT_INPUTS:
            return False
        self._products += 1
        return self._products % 2 == 1

    def rewind(self) -> None:
        """Begin with the layer's first operator again."""
        self._products = 0
        self.kept.reverse()

    def take(self) -> Results:
        """The kept results of the next chosen operator, handed over."""
        return self.kept.pop()


class Frame:
    """One non-reentrant checkpoint: counts what the layer saves, recomputes it at the first use.

    The layer's inputs stay alive as long as the frame, that is until the layer's first operator is differentiated;
    with offload they come back from the host for the recomputation only. Within an `outer` checkpoint they are among
    the tensors that the outer one recomputes.
    """

    __slots__ = (
        "__weakref__",
        "_inputs",
        "_offloaded",
        "_outer",
        "_owners",
        "_past",
        "_slots",
        "autocast",
        "passages",
        "recomputed",
        "segment",
        "selection",
        "stops",
    )

    def __init__(
        self,
        segment: Segment,
        inputs: Inputs,
        autocast: str | None,
        checkpointing: Checkpointing,
        outer: Frame | None = None,
    ) -> None:
        self.segment = segment
        self._outer = outer
        self._slots = () if outer is None else outer.reserve(self, inputs)
        kept, offloaded = (inputs, ()) if not checkpointing.offload else ((), inputs)
        self._inputs = kept if outer is None else ()
        self._offloaded = [Like.of(tensor) for tensor in offloaded] if outer is None else []
        self.autocast = autocast
        self._owners: list[ReferenceType[Node | Frame]] = []
        """Who saved each tensor; what nobody differentiates any more is not kept when it is recomputed."""
        self.recomputed: list[Tensor | None] = []
        self.passages: dict[int, object] = {}
        """What is remembered of functions that save as one, by the number of that tensor (remembered.py)."""
        self._past: list[list[Tensor | None]] = []
        """What earlier backwards have recomputed and not asked for, which stays as long as the graph."""
        self.stops = checkpointing.stops_early
        self.selection = Selection() if checkpointing.selective else None

    @property
    def count(self) -> int:
        """How many tensors the layer saves."""
        return len(self._owners)

    @property
    def missing(self) -> int:
        """How many of them the recomputation has not come to."""
        return len(self._owners) - len(self.recomputed)

    def take(self, node: Node, count: int) -> None:
        """Note that `node` saves the next `count` tensors."""
        node.frame, node.start, node.count = self, self.count, count
        self._owners += [ref(node)] * count

    def reserve(self, inner: Frame, inputs: Inputs) -> Sequence[int | None]:
        """Places for the inputs of a checkpoint within this one."""
        slots: list[int | None] = []
        for tensor in inputs:
            slots.append(None if tensor is None else self.count)
            self._owners += [ref(inner)] * (tensor is not None)
        return slots

    def unpack(self, tape: Recomputer, node: Node) -> Sequence[Tensor]:
        """The saved tensors of `node`, handed over: each is unpacked once."""
        return self._taken(tape, node.start, node.count)

    def runs_again(self) -> None:
        """Another backward begins, which recomputes the layer for itself (torch keeps results by graph task)."""
        if self.selection is not None:
            raise NotFollowedError("a second backward of what selective checkpointing keeps, which torch refuses,")
        self._past.append(self.recomputed)
        self.recomputed = []

    def forget(self, node: Node) -> None:
        """What a node has saved is released, and with it what was recomputed for it (a WeakKeyDictionary)."""
        for recomputed in self._past:
            recomputed[node.start : node.start + node.count] = [None] * node.count

    def _taken(self, tape: Recomputer, start: int, count: int) -> Sequence[Tensor]:
        if not self.recomputed:
            self._recompute(tape)
        stop = start + count
        tensors = [tensor for tensor in self.recomputed[start:stop] if tensor is not None]
        self.recomputed[start:stop] = [None] * count
        return tensors

    def _recompute(self, tape: Recomputer) -> None:
        if self.selection is not None:
            self.selection.rewind()
        recomputed = [None if slot is None else self._from_outer(tape, slot) for slot in self._slots]
        with tape.recomputing(self), suppress(StopRecomputation):
            from_host = [None if like is None else like.new(tape) for like in self._offloaded]
            self.segment(*self._inputs, *recomputed, *from_host)

    def _from_outer(self, tape: Recomputer, slot: int) -> Tensor:
        assert self._outer is not None  # noqa: S101  narrowing: only within another checkpoint there are slots
        return self._outer._taken(tape, slot, 1)[0]

    def keep(self, tensors: Sequence[Tensor]) -> None:
        """Take recomputed tensors.

        Raises:
            StopRecomputation: that was the last one.
        """
        for tensor in tensors:
            owner = self._owners[len(self.recomputed)]()
            gone = owner is None or (isinstance(owner, Node) and owner.frame is None)
            self.recomputed.append(None if gone else tensor)
        if self.stops and len(self.recomputed) >= self.count:
            raise StopRecomputation
