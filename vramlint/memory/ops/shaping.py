"""Operators that take tensors apart, put them together or look at them in another shape."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.job import DTYPE_BYTES
from vramlint.memory.ops.elementwise import Results, promoted, view_as
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Shape, Tensor


def slice_last(tape: Tape, x: Tensor, size: int) -> Tensor:
    """A view of `size` elements of the last dimension. Backward: a zero-filled tensor of the full shape."""
    if not x.requires_grad:
        return x.as_shape((*x.shape[:-1], size))
    return view_as(tape, x, (*x.shape[:-1], size), _slice_backward)


def part(tape: Tape, x: Tensor, shape: Shape) -> Tensor:
    """A view of a part of `x`, seen as `shape`. Backward: a zero-filled tensor of the shape of `x`, in its order."""
    if not x.requires_grad:
        return x.as_shape(shape)
    return view_as(tape, x, shape, _part_backward)


def index(tape: Tape, x: Tensor, shape: Shape, indices: Sequence[Tensor] = ()) -> Tensor:
    """A copy of a part of `x`, seen as `shape`; keeps `indices`. Backward: a zero-filled tensor of the shape of `x`."""
    return tape.apply("index", (x,), shape, x.dtype, _part_backward, save=indices)


def concatenate_last(tape: Tape, a: Tensor, b: Tensor) -> Tensor:
    """`torch.cat((a, b), dim=-1)`. Backward: views of the gradient."""
    shape = (*a.shape[:-1], a.shape[-1] + b.shape[-1])
    out = tape.apply("cat", (a, b), shape, promoted(a, b), _cat_backward)
    out.heads_first = True
    return out


def concatenate(tape: Tape, parts: Sequence[Tensor], shape: Shape) -> Tensor:
    """`torch.cat` along a dimension, expanded parts among them; the widest dtype. Backward: views of the gradient."""
    dtype = max((part.dtype for part in parts), key=DTYPE_BYTES.__getitem__)
    return tape.apply("cat", parts, shape, dtype, _parts_backward)


def reordered(tape: Tape, x: Tensor, shape: Shape) -> Tensor:
    """A copy of `x` in another order, seen as `shape`. Backward: a copy of the gradient."""
    return tape.apply("clone", (x,), shape, x.dtype, _part_backward)


def viewed(tape: Tape, x: Tensor, shape: Shape) -> Tensor:
    """All of `x` as a view of another shape. Backward: a view of the gradient."""
    return view_as(tape, x, shape, _transposed_backward)


def transposed(tape: Tape, x: Tensor) -> Tensor:
    """A view of [B, a, b] as [B, b, a]."""
    batch, first, second = x.shape
    return view_as(tape, x, (batch, second, first), _transposed_backward)


def transposed_matrix(tape: Tape, x: Tensor) -> Tensor:
    """`x.T`: a view."""
    return view_as(tape, x, (x.shape[1], x.shape[0]), _transposed_backward)


def split_last(tape: Tape, x: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """`x.split(sizes, dim=-1)`: views. Backward: one concatenation of all gradients."""
    return _views(tape, x, [(*x.shape[:-1], size) for size in sizes])


def split_first(tape: Tape, x: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """`x.split(sizes)`, as `split_last`."""
    return _views(tape, x, [(size, *x.shape[1:]) for size in sizes])


def split_heads_apart(tape: Tape, x: Tensor) -> tuple[Tensor, ...]:
    """[B, heads, S, d] `.split(1, dim=1)`: views. Backward: one concatenation of all gradients."""
    return _views(tape, x, [(x.shape[0], 1, *x.shape[2:])] * x.shape[1])


def _views(tape: Tape, x: Tensor, shapes: Sequence[Shape]) -> tuple[Tensor, ...]:
    parts = [x.as_shape(shape) for shape in shapes]
    if x.requires_grad and tape.grad_enabled:
        node = tape.view_node((x,), _split_backward)
        if node is not None:
            node.outputs = len(parts)
            for slot, part in enumerate(parts):
                part.node, part.slot = node, slot
    return tuple(parts)


def _slice_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    out = tape.empty(edge[2], gradient.dtype, "slice backward")
    out.heads_first = True
    return (out,)


def _part_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    saved = node.unpack(tape)
    (gradient,) = gradients
    edge = node.edges[0]
    out = None if gradient is None or edge is None else tape.empty(edge[2], gradient.dtype, "slice backward")
    del saved
    return (out,)


def _cat_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    parts = [None if edge is None else gradient.as_shape(edge[2]) for edge in node.edges]
    for part in parts:
        if part is not None:
            part.heads_first = True
    return parts


def _parts_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    """Views of the gradient; one of another dtype is cast, one of an expanded part is summed, by the engine."""
    (gradient,) = gradients
    if gradient is None:
        return [None] * len(node.edges)
    batch = gradient.shape[0]
    return [None if edge is None else gradient.as_shape((batch, *edge[2][1:])) for edge in node.edges]


def _transposed_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    (gradient,) = gradients
    edge = node.edges[0]
    return (None,) if gradient is None or edge is None else (gradient.as_shape(edge[2]),)


def _split_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    edge = node.edges[0]
    present = next((gradient for gradient in gradients if gradient is not None), None)
    if edge is None or present is None:
        return (None,)
    return (tape.empty(edge[2], present.dtype, "split backward"),)
