"""Operators that pick, mask or copy elements."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.ops import elementwise as e
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Shape, Tensor


def gather(tape: Tape, x: Tensor, indices: Tensor, shape: Shape) -> Tensor:
    """`torch.gather(x, -1, indices.expand(shape))`: keeps both. Backward: a zero-filled tensor of the shape of `x`."""
    return tape.apply("gather", (x,), shape, x.dtype, _gather_backward, save=(indices, x))


def _gather_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    edge = node.edges[0]
    result = None if gradient is None or edge is None else tape.empty(edge[2], gradient.dtype, "gather backward")
    del saved
    return (result,)


def masked_fill(tape: Tape, x: Tensor, mask: Tensor) -> Tensor:
    """`x.masked_fill(mask, number)`: keeps the mask. Backward: the same of the gradient."""
    return tape.apply("masked_fill", (x,), x.shape, x.dtype, _masked_backward, save=(mask,))


def masked_fill_in_place(tape: Tape, x: Tensor, mask: Tensor) -> Tensor:
    """`x.masked_fill_(mask, number)`: the result lives in the memory of `x`."""
    out = x.as_shape(x.shape)
    if tape.grad_enabled and x.requires_grad:
        out.node, out.slot = tape.in_place((mask,), (x,), _masked_backward), 0
    return out


def _masked_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    result = None if gradient is None else e.like(tape, gradient, "masked_fill backward")
    del saved
    return (result,)


def repeat_first(tape: Tape, x: Tensor, times: int) -> Tensor:
    """`x.repeat(times, 1, …)`: a copy, even of once. Backward: a sum over the copies, of one a view."""
    return tape.apply("repeat", (x,), (times * x.shape[0], *x.shape[1:]), x.dtype, _repeat_backward)


def _repeat_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    if gradient.shape == edge[2]:
        return (gradient,)
    out = tape.empty(edge[2], gradient.dtype, "repeat backward")
    out.heads_first = gradient.heads_first
    return (out,)
