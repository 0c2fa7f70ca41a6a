"""Views and copies of latent attention: parts of heads, and keys put together from two sources.

Tensors are [B, heads, S, d].
"""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor

Results = Sequence["Tensor | None"]


def split_parts(tape: Tape, x: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """`x.split(sizes, dim=-1)`: views. Backward: one concatenation of all gradients, heads first."""
    parts = shaping.split_last(tape, x, sizes)
    node = parts[0].node
    if node is not None and node is not x.node:
        node.backward = _split_backward
    return parts


def _split_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    edge = node.edges[0]
    present = next((gradient for gradient in gradients if gradient is not None), None)
    if edge is None or present is None:
        return (None,)
    out = tape.empty(edge[2], present.dtype, "split backward")
    out.heads_first = True
    return (out,)


def expanded(tape: Tape, x: Tensor, heads: int) -> Tensor:
    """A single head seen as `heads`: a view. Backward: a sum."""
    batch, _, length, size = x.shape
    out = x.as_shape((batch, heads, length, size))
    if x.requires_grad and tape.grad_enabled:
        out.node, out.slot = tape.view_node((x,), _expanded_backward), 0
    return out


def _expanded_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    (gradient,) = gradients
    edge = node.edges[0]
    return (None,) if gradient is None or edge is None else (tape.empty(edge[2], gradient.dtype, "sum"),)


def filled(tape: Tape, first: Tensor, second: Tensor) -> Tensor:
    """A new tensor whose last dimension is filled from `first`, then from `second`, by two copies into views of it."""
    shape = (*first.shape[:-1], first.shape[-1] + second.shape[-1])
    out = tape.empty(shape, first.dtype, "new_empty")
    out.heads_first = True
    out.requires_grad = tape.grad_enabled and (first.requires_grad or second.requires_grad)
    if not out.requires_grad:
        return out
    half = out.as_shape(shape)
    half.heads_first = True
    half.node = tape.view_node((first,), _first_backward)
    whole = half.as_shape(shape)
    whole.heads_first = True
    whole.node = tape.view_node((half, second), _second_backward)
    return whole


def _second_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    """CopySlices: a copy of the gradient in which the slice is filled with zeros, and a copy of the slice."""
    (gradient,) = gradients
    edge = node.edges[1]
    if gradient is None:
        return (None, None)
    rest = e.like(tape, gradient, "copy_slices")
    part = None if edge is None else tape.empty(edge[2], gradient.dtype, "copy_slices")
    if part is not None:
        tape.scratch((part.nbytes,), "zeros")
        part.heads_first = True
    return (rest, part)


def _first_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    """The rest of the gradient is copied though nothing asks for it."""
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    rest = e.like(tape, gradient, "copy_slices")
    part = tape.empty(edge[2], gradient.dtype, "copy_slices")
    part.heads_first = True
    del rest
    return (part,)
