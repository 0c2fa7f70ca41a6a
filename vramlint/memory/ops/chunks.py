"""What the forms of the delta rule have in common: sequences cut into chunks, which the state passes one by one."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.selection import spread_sum
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Shape, Tensor

CHUNK = 64
MOST_STEPS = 64
"""Of a longer sequence a step takes several chunks: all is counted, but what passes is there for several at once."""
Results = Sequence["Tensor | None"]


def interleaved(tape: Tape, x: Tensor, heads: int) -> Tensor:
    """`x.repeat_interleave(…, dim=2)`: a copy. Backward: a sum."""
    batch, _, length, size = x.shape
    return tape.apply("repeat_interleave", (x,), (batch, heads, length, size), x.dtype, _sum_backward)


def _sum_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    (gradient,) = gradients
    edge = node.edges[0]
    return (None,) if gradient is None or edge is None else (tape.empty(edge[2], gradient.dtype, "sum"),)


def normalised(tape: Tape, x: Tensor) -> Tensor:
    """l2norm. Autocast asks for a float32 sum."""
    squares = e.mul(tape, x, x)
    total = spread_sum(tape, squares, (*x.shape[:-1], 1))
    del squares
    shifted = e.add_number(tape, total)
    del total
    inverse = e.rsqrt(tape, shifted)
    del shifted
    return e.mul(tape, x, inverse)


def pad_to(tape: Tape, x: Tensor, shape: Shape) -> Tensor:
    """`F.pad(x, …)`: a copy, even where nothing is added."""
    out = tape.apply("pad", (x,), shape, x.dtype, cut_backward)
    out.heads_first = x.heads_first or shape != x.shape
    return out


def cut_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    """A copy of what is no padding."""
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    out = tape.empty(edge[2], gradient.dtype, "pad backward")
    out.heads_first = True
    return (out,)


def column(tape: Tape, x: Tensor) -> Tensor:
    """`x.unsqueeze(-1)`."""
    return shaping.viewed(tape, x, (*x.shape, 1))


def cumulated(tape: Tape, x: Tensor) -> Tensor:
    """`x.cumsum(-1)`."""
    return tape.apply("cumsum", (x,), x.shape, x.dtype, _cumulated_backward)


def _cumulated_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    """`gradient.flip(-1).cumsum(-1).flip(-1)`."""
    (gradient,) = gradients
    if gradient is None:
        return (None,)
    flipped = e.like(tape, gradient, "flip")
    total = e.like(tape, gradient, "cumsum")
    out = e.like(tape, gradient, "flip")
    del total, flipped
    return (out,)


def steps(count: int) -> list[int]:
    """How many chunks each step takes, the first the fewest."""
    number = min(count, MOST_STEPS)
    taken, rest = divmod(count, number)
    return [taken] * (number - rest) + [taken + 1] * rest


def filled(tape: Tape, whole: Tensor, x: Tensor) -> Tensor:
    """A part of `whole` is set to `x`: `whole[:, :, i] = x`."""
    out = whole.as_shape(whole.shape)
    if tape.grad_enabled and (whole.requires_grad or x.requires_grad):
        out.node, out.slot, out.requires_grad = tape.view_node((whole, x), _filled_backward), 0, True
    return out


def _filled_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    """CopySlices: a copy of the gradient, asked for or not, in which the chunk is zeroed, and a copy of the chunk."""
    (gradient,) = gradients
    edge = node.edges[1]
    if gradient is None or edge is None:
        return (None, None)
    rest = e.like(tape, gradient, "copy_slices")
    part = tape.empty(edge[2], gradient.dtype, "copy_slices")
    if node.needs(0):
        tape.scratch((part.nbytes,), "zeros_like")
    return (rest, part)
