"""Activation checkpointing, both forms of torch.utils.checkpoint (torch 2.13 torch/utils/checkpoint.py)."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.autograd import Engine
from vramlint.memory.frame import Frame, Layer
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor


def nonreentrant(tape: Tape, layer: Layer, hidden: Tensor) -> Tensor:
    """Run `layer` without keeping what it saves."""
    if tape.replays:
        with tape.inside_recomputation(hidden):
            return layer(hidden)
    frame = Frame(layer, hidden, tape.autocast, tape.frame)
    outer, tape.frame = tape.frame, frame
    try:
        return layer(hidden)
    finally:
        tape.frame = outer


def reentrant(
    tape: Tape, layer: Layer, hidden: Tensor, others: list[Tensor] | None = None, *, releases: bool = False
) -> Tensor:
    """Run `layer` under no_grad; its backward runs it again with a graph and differentiates that.

    `others` is where the layer puts its outputs besides the one that it returns, each time it runs. What else the
    layer refers to stays as long as the graph, or goes once it is differentiated if the checkpoint `releases` it.
    """
    with tape.grad_mode(enabled=False):
        output = layer(hidden)
    if tape.grad_enabled and hidden.requires_grad:
        outputs = [output, *(others or ())]
        node = tape.node((hidden,), _reentrant_backward)
        node.saved = (hidden,)
        node.outputs = len(outputs)
        shapes = [(tensor.shape, tensor.dtype) for tensor in outputs]
        node.context = (layer, tape.autocast, others, shapes, releases)
        for slot, tensor in enumerate(outputs):
            tensor.node, tensor.slot, tensor.requires_grad = node, slot, True
    return output


def _reentrant_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    layer, autocast, others, outputs, releases = node.context
    # a Python function gets zeros for the outputs that nothing has used
    whole = [
        tape.empty(shape, dtype, "zeros") if gradient is None else gradient
        for gradient, (shape, dtype) in zip(gradients, outputs, strict=True)
    ]
    (hidden,) = node.unpack(tape)
    detached = Tensor(hidden.shape, hidden.dtype, hidden.storage)
    captured: Gradients = []
    with tape.grad_mode(enabled=True):
        tape.capture(detached, captured)
        outer, tape.leaf = tape.leaf, detached
        with tape.autocasting(autocast):
            output = layer(detached)
        tape.leaf = outer
        Engine(tape).run(output, whole[0], *zip(others or (), whole[1:], strict=True))
        if others is not None:
            others.clear()
    if releases:
        node.context = None
    return captured
