"""The memory of one non-reentrant checkpoint (torch 2.13 torch/utils/checkpoint.py, _CheckpointFrame)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Protocol

from vramlint.memory.tensor import Node, Tensor

Layer = Callable[[Tensor], Tensor]


class Recomputer(Protocol):
    """Who runs a layer again."""

    def recomputing(self, frame: Frame) -> AbstractContextManager[None]:
        """A context in which what the layer saves goes to `frame`."""


class StopRecomputation(Exception):  # noqa: N818  no error: it ends a recomputation early
    """The last saved tensor has been recomputed: the rest of the layer is not run again."""


class Frame:
    """One non-reentrant checkpoint: counts what the layer saves, recomputes it at the first use.

    The layer's input stays alive as long as the frame, that is until the layer's first operator is differentiated.
    """

    __slots__ = ("autocast", "count", "hidden", "layer", "recomputed")

    def __init__(self, layer: Layer, hidden: Tensor, autocast: str | None) -> None:
        self.layer = layer
        self.hidden = hidden
        self.autocast = autocast
        self.count = 0
        self.recomputed: list[Tensor | None] = []

    def unpack(self, tape: Recomputer, node: Node) -> Sequence[Tensor]:
        """The saved tensors of `node`, handed over: each is unpacked once."""
        if not self.recomputed:
            with tape.recomputing(self), suppress(StopRecomputation):
                self.layer(self.hidden)
        stop = node.start + node.count
        tensors = [tensor for tensor in self.recomputed[node.start : stop] if tensor is not None]
        self.recomputed[node.start : stop] = [None] * node.count
        return tensors

    def keep(self, tensors: Sequence[Tensor]) -> None:
        """Take recomputed tensors.

        Raises:
            StopRecomputation: that was the last one.
        """
        self.recomputed.extend(tensors)
        if len(self.recomputed) >= self.count:
            raise StopRecomputation
