"""Means and sums over any dimensions, and vectors brought to unit length."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.ops import elementwise as e
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Shape, Tensor


def mean(tape: Tape, x: Tensor, shape: Shape) -> Tensor:
    """The mean of `x`, of `shape`. Backward divides the expanded gradient: one full tensor."""
    out = tape.apply("mean", (x,), shape, x.dtype, _mean_backward)
    tape.sums_partially(x.shape, shape)
    return out


def _mean_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    edge = node.edges[0]
    return (None,) if gradient is None or edge is None else (tape.empty(edge[2], gradient.dtype, "mean backward"),)


def total(tape: Tape, x: Tensor, shape: Shape) -> Tensor:
    """The sum of `x`, of `shape`; float32 under autocast. Backward expands: no memory."""
    wide = tape.upper(x)
    out = tape.apply("sum", (wide,), shape, wide.dtype, _total_backward)
    tape.sums_partially(x.shape, shape)
    return out


def _total_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    edge = node.edges[0]
    return (None,) if gradient is None or edge is None else (gradient.as_shape(edge[2]),)


def masked(tape: Tape, x: Tensor, mask: Tensor) -> Tensor:
    """`x * mask.unsqueeze(-1)` of [B, S, H], the mask [B, S] of no float dtype and kept."""
    shown = mask.as_shape((*mask.shape, 1))
    return tape.apply("mul", (x, shown), x.shape, x.dtype, _masked_backward, save=(shown,))


def masked_mean(tape: Tape, x: Tensor, mask: Tensor) -> Tensor:
    """`(x * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)` of [B, S, H]."""
    batch, _, size = x.shape
    summed = total(tape, masked(tape, x, mask), (batch, size))
    counts = tape.empty((batch, 1), "int64", "sum")
    return tape.apply("div", (summed, counts), summed.shape, summed.dtype, _divide_backward, save=(counts,))


def _masked_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    edge = node.edges[0]
    first = None if gradient is None or edge is None else tape.empty(edge[2], gradient.dtype, "mul backward")
    del saved
    return (first, None)


def expanded_mean(tape: Tape, x: Tensor) -> Tensor:
    """The mean of [B, S, H] by a mask that is expanded to all of it and kept (sentence_transformers' Pooling)."""
    batch, _, size = x.shape
    mask = tape.empty(x.shape, x.dtype, "expanded mask")
    masked = e.mul(tape, x, mask)
    summed = total(tape, masked, (batch, size))
    del masked
    counts = total(tape, mask, (batch, size))
    counts = tape.empty((batch, size), counts.dtype, "clamp")
    return divide(tape, summed, counts)


def normalized(tape: Tape, x: Tensor) -> Tensor:
    """`F.normalize(x, p=2, dim=1)` of [B, H]: by a norm that is clamped from below, outside of autocast."""
    norm = tape.apply("norm", (x,), (x.shape[0], 1), x.dtype, _norm_backward, save=(x,), save_output=True)
    norm = e.clamp_one_side(tape, norm, "clamp_min")
    return divide(tape, x, norm)


def unit_length(tape: Tape, x: Tensor) -> Tensor:
    """`x / x.norm(p=2, dim=-1, keepdim=True)` of [B, H]; under autocast the norm is float32 whatever x is."""
    dtype = x.dtype if tape.autocast is None else "float32"
    norm = tape.apply("norm", (x,), (x.shape[0], 1), dtype, _norm_backward, save=(x,), save_output=True)
    return divide(tape, x, norm)


def _norm_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """Grad * (x / norm).masked_fill_(norm == 0, 0)."""
    (x, _) = node.unpack(tape)
    unit = e.like(tape, x, "norm backward")
    result = e.like(tape, x, "norm backward")
    del unit, gradients
    return (result,)


def unit_length_of_operators(tape: Tape, x: Tensor) -> Tensor:
    """`x / x.pow(2).sum(-1, keepdim=True).pow(0.5)` (transformers 5.23 models/clip, _get_vector_norm)."""
    return divide(tape, x, _norm_of_operators(tape, x))


def _norm_of_operators(tape: Tape, x: Tensor) -> Tensor:
    square = e.power(tape, x)
    summed = total(tape, square, (x.shape[0], 1))
    return e.power(tape, summed)


def divide(tape: Tape, a: Tensor, b: Tensor) -> Tensor:
    """`a / b`: both are kept. Backward of `b`: -grad * ((a / b) / b), one C++ expression."""
    save = (a, b) if b.requires_grad else (b,)
    return tape.apply("div", (a, b), e.broadcast(a.shape, b.shape), e.promoted(a, b), _divide_backward, save=save)


def _divide_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    other = None
    if node.needs(1):
        parts = [e.like(tape, gradient, "div backward") for _ in ("quotient", "quotient", "negative")]
        other = e.like(tape, gradient, "div backward")
        parts.clear()
    first = e.like(tape, gradient, "div backward") if node.needs(0) else None
    del saved
    return (first, other)
