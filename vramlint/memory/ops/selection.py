"""Choosing among columns and rows: top-k, look-ups by row, sums over what was chosen."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Shape, Tensor

Results = Sequence["Tensor | None"]


def topk(tape: Tape, x: Tensor, chosen: int) -> tuple[Tensor, Tensor]:
    """`x.topk(chosen, dim=-1)`: values and indices; keeps the indices. Backward: a zero-filled tensor of x's shape."""
    shape = (*x.shape[:-1], chosen)
    indices = tape.empty(shape, "int64", "topk indices")
    values = tape.apply("topk", (x,), shape, x.dtype, _zeros_backward, save=(indices,))
    return values, indices


def take_rows(tape: Tape, x: Tensor, rows: Tensor, shape: Shape) -> Tensor:
    """`x[rows]`: keeps the indices. Backward: a zero-filled tensor of the shape of `x`."""
    return tape.apply("index", (x,), shape, x.dtype, _zeros_backward, save=(rows,))


def row(tape: Tape, x: Tensor) -> Tensor:
    """`x[number]`: a view. Backward: a zero-filled tensor of the shape of `x`."""
    return shaping.part(tape, x, x.shape[1:])


def sum_over(tape: Tape, x: Tensor, shape: Shape) -> Tensor:
    """`x.sum(dim)`; autocast asks for float32. Backward: an expanded view, copied where it is needed whole."""
    dtype = x.dtype if tape.autocast is None else "float32"
    return tape.apply("sum", (x,), shape, dtype, _expanded_backward)


def spread_sum(tape: Tape, x: Tensor, shape: Shape) -> Tensor:
    """`x.sum(…)`; float32 under autocast. Backward: an expanded view."""
    return tape.apply("sum", (x,), shape, x.dtype if tape.autocast is None else "float32", _spread_backward)


def divide_in_place(tape: Tape, x: Tensor, divisor: Tensor) -> Tensor:
    """`x /= divisor`: both are kept, `x` as a copy of what it was."""
    out = x.as_shape(x.shape)
    if tape.grad_enabled and x.requires_grad:
        before = tape.empty(x.shape, x.dtype, "clone")
        out.node, out.slot = tape.in_place((before, divisor), (x, divisor), _divide_backward), 0
    return out


def multiply_in_place(tape: Tape, x: Tensor, factor: Tensor, *, of_view: bool) -> Tensor:
    """`x.mul_(factor)`: both are kept, `x` as a copy of what it was, which only a gradient of `factor` needs.

    `of_view`: `x` is a view of a tensor with a history, whose gradient is copied to replace a part of it.
    """
    out = x.as_shape(x.shape)
    if tape.grad_enabled and (x.requires_grad or factor.requires_grad):
        save = [factor]
        if factor.requires_grad:
            save.insert(0, tape.empty(x.shape, x.dtype, "clone"))
        backward = _multiply_view_backward if of_view else _multiply_backward
        out.node, out.slot, out.requires_grad = tape.in_place(save, (x, factor), backward), 0, True
    return out


def joined(tape: Tape, parts: Sequence[Tensor], shape: Shape) -> Tensor:
    """`torch.cat` of rows. Backward: views of the gradient."""
    return tape.apply("cat", parts, shape, parts[0].dtype, _joined_backward)


def divide(tape: Tape, x: Tensor, divisor: Tensor) -> Tensor:
    """`x / divisor`: both are kept."""
    return tape.apply("div", (x, divisor), x.shape, x.dtype, _divide_backward, save=(x, divisor))


def scatter_in_place(tape: Tape, x: Tensor, source: Tensor, indices: Tensor) -> Tensor:
    """`x.scatter_(1, indices, source)` into a tensor without history: keeps the indices."""
    out = x.as_shape(x.shape)
    if tape.grad_enabled and source.requires_grad:
        out.node, out.slot = tape.in_place((indices,), (source,), _gathered_backward), 0
        out.requires_grad = True
    return out


def add_rows(tape: Tape, total: Tensor, x: Tensor, rows: Tensor) -> Tensor:
    """`total.index_add_(0, rows, x)`: in place, keeps the indices and, for its shape, `x`."""
    out = total.as_shape(total.shape)
    out.node, out.requires_grad = None, False
    if tape.grad_enabled and (total.requires_grad or x.requires_grad):
        out.node, out.slot, out.requires_grad = tape.in_place((rows, x), (total, x), _add_rows_backward), 0, True
    return out


def new_rows(tape: Tape, x: Tensor, rows: Tensor, shape: Shape) -> Tensor:
    """`zeros.index_add(0, rows, x)`: keeps the indices and, for its shape, `x`. Backward: the gradient's rows."""
    return tape.apply("index_add", (x,), shape, x.dtype, _gathered_backward, save=(rows, x))


def split_rows(tape: Tape, x: Tensor, count: int) -> tuple[Tensor, ...]:
    """`x.split(…)` in `count` even parts of rows: views. Backward: one concatenation of all gradients."""
    size, rest = divmod(x.shape[0], count)
    sizes = [size + (at < rest) for at in range(count)]
    parts = shaping.split_last(tape, x, sizes)
    for part, rows in zip(parts, sizes, strict=True):
        part.shape = (rows, *x.shape[1:])
    return parts


def put_rows(tape: Tape, target: Tensor, x: Tensor, rows: Tensor) -> Tensor:
    """`target[rows] = x` for a tensor without history: keeps the indices. Backward: the gradient's rows."""
    out = target.as_shape(target.shape)
    if tape.grad_enabled and x.requires_grad:
        out.node, out.slot, out.requires_grad = tape.in_place((rows,), (x,), _gathered_backward), 0, True
    return out


def _zeros_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    saved = node.unpack(tape)
    (gradient,) = gradients
    edge = node.edges[0]
    out = None if gradient is None or edge is None else tape.empty(edge[2], gradient.dtype, "index backward")
    del saved
    return (out,)


def _gathered_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    return _zeros_backward(tape, node, gradients)


def _expanded_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    _, _, shape, dtype = edge
    # a cast to the dtype before autocast copies the view anyhow
    return (gradient.as_shape(shape) if dtype != gradient.dtype else tape.empty(shape, gradient.dtype, "expand"),)


def _spread_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    """A view."""
    (gradient,) = gradients
    edge = node.edges[0]
    return (None,) if gradient is None or edge is None else (gradient.as_shape(edge[2]),)


def _divide_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    """`-grad * ((x / divisor) / divisor)` for the divisor, then `grad / divisor`."""
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    other = None
    if node.needs(1):
        negative, quotient = e.like(tape, gradient, "neg"), e.like(tape, gradient, "div")
        quotient = e.like(tape, quotient, "div")
        other = e.like(tape, gradient, "mul")
        del negative, quotient
    first = e.like(tape, gradient, "div backward") if node.needs(0) else None
    del saved
    return (first, other)


def _multiply_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    other = e.like(tape, gradient, "mul backward") if node.needs(1) else None
    first = e.like(tape, gradient, "mul backward") if node.needs(0) else None
    del saved
    return (first, other)


def _multiply_view_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    """CopySlices: a copy of the gradient, and one of the slice that the product's derivative gets."""
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    whole, part = e.like(tape, gradient, "copy_slices"), e.like(tape, gradient, "copy_slices")
    other = e.like(tape, gradient, "mul backward") if node.needs(1) else None
    first = e.like(tape, gradient, "mul backward")
    del saved, part, first
    return (whole if node.needs(0) else None, other)


def _joined_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    (gradient,) = gradients
    if gradient is None:
        return [None] * len(node.edges)
    return [None if edge is None else gradient.as_shape(edge[2]) for edge in node.edges]


def _add_rows_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    saved = node.unpack(tape)
    (gradient,) = gradients
    edge = node.edges[1]
    if gradient is None:
        return (None, None)
    source = None if edge is None else tape.empty(edge[2], gradient.dtype, "index_select")
    del saved
    return (gradient if node.needs(0) else None, source)
