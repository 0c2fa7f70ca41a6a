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


class Sink(Protocol):
    """Where recomputed tensors go."""

    def keep(self, tensors: Sequence[Tensor]) -> None:
        """Take them."""


class Discarded:
    """Takes nothing."""

    def keep(self, tensors: Sequence[Tensor]) -> None:
        """Let them go."""


class StopRecomputation(Exception):  # noqa: N818  no error: it ends a recomputation early
    """The last saved tensor has been recomputed: the rest of the layer is not run again."""


class Frame:
    """One non-reentrant checkpoint: counts what the layer saves, recomputes it at the first use.

    The layer's input stays alive as long as the frame, that is until the layer's first operator is differentiated.
    Within an `outer` checkpoint it is one of the tensors that the outer one recomputes.
    """

    __slots__ = ("autocast", "count", "hidden", "layer", "outer", "recomputed", "slot")

    def __init__(self, layer: Layer, hidden: Tensor, autocast: str | None, outer: Frame | None) -> None:
        self.layer = layer
        self.hidden = hidden if outer is None else None
        self.autocast = autocast
        self.count = 0
        self.recomputed: list[Tensor | None] = []
        self.outer = outer
        self.slot = 0
        if outer is not None:
            self.slot = outer.count
            outer.count += 1

    def unpack(self, tape: Recomputer, node: Node) -> Sequence[Tensor]:
        """The saved tensors of `node`, handed over: each is unpacked once."""
        return self._taken(tape, node.start, node.count)

    def keep(self, tensors: Sequence[Tensor]) -> None:
        """Take recomputed tensors.

        Raises:
            StopRecomputation: that was the last one.
        """
        self.recomputed.extend(tensors)
        if len(self.recomputed) >= self.count:
            raise StopRecomputation

    def _taken(self, tape: Recomputer, start: int, count: int) -> Sequence[Tensor]:
        if not self.recomputed:
            hidden = self._input(tape)
            with tape.recomputing(self), suppress(StopRecomputation):
                self.layer(hidden)
            del hidden
        stop = start + count
        tensors = [tensor for tensor in self.recomputed[start:stop] if tensor is not None]
        self.recomputed[start:stop] = [None] * count
        return tensors

    def _input(self, tape: Recomputer) -> Tensor:
        if self.outer is not None:
            return self.outer._taken(tape, self.slot, 1)[0]
        assert self.hidden is not None  # noqa: S101  narrowing: without an outer frame it is there
        return self.hidden
