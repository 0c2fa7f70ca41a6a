"""The memory of one non-reentrant checkpoint (torch 2.13 torch/utils/checkpoint.py, _CheckpointFrame)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Protocol

from vramlint.job import Checkpointing
from vramlint.memory.tensor import Node, Shape, Tensor

Layer = Callable[[Tensor], Tensor]
Results = tuple[Tensor, Sequence[Tensor]]
"""An operator's output and what else it yields."""
KEPT_BY_SELECTION = frozenset({"flash attention", "efficient attention"})
"""Operators whose results op-level selective checkpointing always keeps (torchtitan 0.3 activation_checkpoint.py)."""
PRODUCT, PRODUCT_INPUTS = "linear", 2
"""A matrix product without bias (aten.mm): of these every second result is kept."""


class Recomputer(Protocol):
    """Who runs a layer again."""

    def recomputing(self, frame: Frame) -> AbstractContextManager[None]:
        """A context in which what the layer saves goes to `frame`."""

    def empty(self, shape: Shape, dtype: str, operator: str, component: str | None = None) -> Tensor:
        """A new tensor."""


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

    The layer's input stays alive as long as the frame, that is until the layer's first operator is differentiated;
    with offload it comes back from the host for the recomputation only.
    """

    __slots__ = ("_hidden", "_like", "autocast", "count", "layer", "recomputed", "selection")

    def __init__(self, layer: Layer, hidden: Tensor, autocast: str | None, checkpointing: Checkpointing) -> None:
        self.layer = layer
        self._hidden = None if checkpointing.offload else hidden
        self._like = hidden.shape, hidden.dtype, hidden.requires_grad
        self.autocast = autocast
        self.count = 0
        self.recomputed: list[Tensor | None] = []
        self.selection = Selection() if checkpointing.selective else None

    def unpack(self, tape: Recomputer, node: Node) -> Sequence[Tensor]:
        """The saved tensors of `node`, handed over: each is unpacked once."""
        if not self.recomputed:
            self._recompute(tape)
        stop = node.start + node.count
        tensors = [tensor for tensor in self.recomputed[node.start : stop] if tensor is not None]
        self.recomputed[node.start : stop] = [None] * node.count
        return tensors

    def _recompute(self, tape: Recomputer) -> None:
        if self.selection is not None:
            self.selection.rewind()
        with tape.recomputing(self), suppress(StopRecomputation):
            self.layer(self._hidden or self._from_host(tape))

    def _from_host(self, tape: Recomputer) -> Tensor:
        shape, dtype, requires_grad = self._like
        hidden = tape.empty(shape, dtype, "from host")
        hidden.requires_grad = requires_grad
        return hidden

    def keep(self, tensors: Sequence[Tensor]) -> None:
        """Take recomputed tensors.

        Raises:
            StopRecomputation: that was the last one.
        """
        self.recomputed.extend(tensors)
        if len(self.recomputed) >= self.count:
            raise StopRecomputation
