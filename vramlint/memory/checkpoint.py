"""Activation checkpointing, both forms of torch.utils.checkpoint (torch 2.13 torch/utils/checkpoint.py)."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.job import Checkpointing
from vramlint.memory.autograd import Engine
from vramlint.memory.frame import Frame, Layer
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor


def nonreentrant(tape: Tape, layer: Layer, hidden: Tensor, checkpointing: Checkpointing) -> Tensor:
    """Run `layer` without keeping what it saves."""
    frame = Frame(layer, hidden, tape.autocast, checkpointing)
    outer, tape.frame = tape.frame, frame
    try:
        return layer(hidden)
    finally:
        tape.frame = outer


def reentrant(tape: Tape, layer: Layer, hidden: Tensor, *, offload: bool) -> Tensor:
    """Run `layer` under no_grad; its backward runs it again with a graph and differentiates that.

    With `offload` the input waits in host memory.
    """
    with tape.grad_mode(enabled=False):
        output = layer(hidden)
    if tape.grad_enabled and hidden.requires_grad:
        node = tape.node((hidden,), _reentrant_backward)
        node.saved = () if offload else (hidden,)
        node.context = (layer, tape.autocast, hidden.shape, hidden.dtype)
        output.node, output.requires_grad = node, True
    return output


def _reentrant_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    layer, autocast, shape, dtype = node.context
    (hidden,) = node.unpack(tape) or (tape.empty(shape, dtype, "from host"),)
    detached = Tensor(hidden.shape, hidden.dtype, hidden.storage)
    captured: Gradients = []
    with tape.grad_mode(enabled=True):
        tape.capture(detached, captured)
        outer, tape.leaf = tape.leaf, detached
        with tape.autocasting(autocast):
            output = layer(detached)
        tape.leaf = outer
        (gradient,) = gradients
        if gradient is not None:
            Engine(tape).run(output, gradient)
    tape.retain([hidden, *(tensor for tensor in captured if tensor is not None)])
    return captured
