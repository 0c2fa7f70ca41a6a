"""`x[mask] = value` in place, as SpecAugment and padding write it (torch 2.13 index_put_ with a bool mask)."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor


def write_rows(tape: Tape, x: Tensor, mask: Tensor, row: Tensor, rows: int, *, into_view: bool) -> Tensor:
    """`x[mask] = row` for a mask [B, L] that is true `rows` times. Backward picks these rows' gradients.

    `into_view`: `x` is a view, as the output of a biased linear layer is.
    """
    return _written(tape, x, mask, (x, row), rows, into_view=into_view)


def write_zeros(tape: Tape, x: Tensor, mask: Tensor, *, into_view: bool) -> Tensor:
    """`x[mask] = 0`."""
    return _written(tape, x, mask, (x,), 0, into_view=into_view)


def _written(tape: Tape, x: Tensor, mask: Tensor, inputs: Sequence[Tensor], rows: int, *, into_view: bool) -> Tensor:
    out = x.as_shape(x.shape)
    out.node, out.requires_grad = None, False
    if tape.grad_enabled and any(tensor.requires_grad for tensor in inputs):
        node = tape.in_place((mask,), inputs, _written_backward)
        out.node, out.slot, out.requires_grad = node, 0, True
        if node is not None:
            node.context = (into_view, rows)
    return out


def _written_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """Writing into a view copies its base's gradient twice more.

    torch/csrc/autograd/functions/tensor.cpp, CopySlices
    """
    mask = node.unpack(tape)
    into_view, rows = node.context
    (gradient,) = gradients
    if gradient is None:
        return [None] * len(node.edges)
    whole = tape.empty(gradient.shape, gradient.dtype, "clone") if into_view else None
    part = tape.empty(gradient.shape, gradient.dtype, "clone") if into_view else None
    filled = tape.empty(gradient.shape, gradient.dtype, "index_put") if node.needs(0) else None
    results: list[Tensor | None] = [filled if whole is None else whole]
    if len(node.edges) > 1:
        edge = node.edges[1]
        results.append(None if edge is None else tape.empty((rows, *edge[2]), gradient.dtype, "index"))
    del mask, part, filled
    return results
