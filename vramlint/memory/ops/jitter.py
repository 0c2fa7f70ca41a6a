"""Noise on what a router sees, in training (models/mixtral, MixtralSparseMoeBlock)."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.ops import elementwise as e
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor


def jittered(tape: Tape, x: Tensor) -> Tensor:
    """`x *= torch.empty_like(x).uniform_(…)`: in the memory of `x`; the noise is kept."""
    noise = e.like(tape, x, "jitter")
    out = x.as_shape(x.shape)
    if tape.grad_enabled and x.requires_grad:
        out.node, out.slot = tape.in_place((noise,), (x,), _jittered_backward), 0
    return out


def _jittered_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    result = None if gradient is None else e.like(tape, gradient, "mul backward")
    del saved
    return (result,)


def jittered_view(tape: Tape, x: Tensor) -> Tensor:
    """The same of a view of a tensor with a history, whose gradient is copied to replace a part of it."""
    noise = e.like(tape, x, "jitter")
    out = x.as_shape(x.shape)
    if tape.grad_enabled and x.requires_grad:
        out.node, out.slot = tape.in_place((noise,), (x,), _jittered_view_backward), 0
    return out


def _jittered_view_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """CopySlices: a copy of the gradient, one of the slice, and the product with the noise."""
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None,)
    whole, part = e.like(tape, gradient, "copy_slices"), e.like(tape, gradient, "copy_slices")
    product = e.like(tape, gradient, "mul backward")
    del saved, part, product
    return (whole,)
