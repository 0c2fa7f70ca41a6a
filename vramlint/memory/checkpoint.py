"""Activation checkpointing, both forms of torch.utils.checkpoint (torch 2.13 torch/utils/checkpoint.py)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vramlint.memory.autograd import Engine, Gradients, Node
from vramlint.memory.tensor import Tensor

if TYPE_CHECKING:
    from vramlint.memory.tape import Tape

Layer = Callable[[Tensor], Tensor]


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

    def unpack(self, tape: Tape, node: Node) -> Sequence[Tensor]:
        """The saved tensors of `node`, handed over: each is unpacked once."""
        if not self.recomputed:
            with tape.recomputing(self), contextlib.suppress(StopRecomputation):
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


def nonreentrant(tape: Tape, layer: Layer, hidden: Tensor) -> Tensor:
    """Run `layer` without keeping what it saves."""
    frame = Frame(layer, hidden, tape.autocast)
    outer, tape.frame = tape.frame, frame
    try:
        return layer(hidden)
    finally:
        tape.frame = outer


def reentrant(tape: Tape, layer: Layer, hidden: Tensor) -> Tensor:
    """Run `layer` under no_grad; its backward runs it again with a graph and differentiates that."""
    with tape.grad_mode(enabled=False):
        output = layer(hidden)
    if tape.grad_enabled and hidden.requires_grad:
        node = tape.node((hidden,), _reentrant_backward)
        node.saved = (hidden,)
        node.context = (layer, tape.autocast)
        output.node, output.requires_grad = node, True
    return output


def _reentrant_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    layer, autocast = node.context
    (hidden,) = node.unpack(tape)
    detached = Tensor(hidden.shape, hidden.dtype, hidden.storage)
    captured: Gradients = []
    with tape.grad_mode(enabled=True):
        tape.capture(detached, captured)
        with tape.autocasting(autocast):
            output = layer(detached)
        (gradient,) = gradients
        if gradient is not None:
            Engine(tape).run(output, gradient)
    return captured
