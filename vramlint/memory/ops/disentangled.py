"""Attention over contents and relative positions apart (transformers 5.23 models/deberta_v2/modeling_deberta_v2.py).

Tensors are [B, heads, S, d]; the model sees the first two dimensions as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.indexing import gather, repeat_first
from vramlint.memory.ops.linear import bmm, matmul
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor


def heads_apart(tape: Tape, x: Tensor, heads: int) -> Tensor:
    """transpose_for_scores: a copy of [B, S, heads·d] with its heads first."""
    return attention.contiguous(tape, attention.split_heads(tape, x, heads))


def transposed(tape: Tape, x: Tensor) -> Tensor:
    """`x.transpose(-1, -2)`: a view, and so is its gradient."""
    out = x.as_shape((*x.shape[:-2], x.shape[-1], x.shape[-2]))
    if x.requires_grad and tape.grad_enabled:
        out.node, out.slot = tape.view_node((x,), _transposed_backward), 0
    return out


def _transposed_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    out = gradient.as_shape(edge[2])
    out.heads_first = True
    return (out,)


def position_heads(tape: Tape, x: Tensor, heads: int, batch: int) -> Tensor:
    """Positions [1, P, heads·d] with their heads first, a copy for every sequence."""
    out = repeat_first(tape, heads_apart(tape, x, heads), batch)
    out.heads_first = True
    return out


def scale_in_place(tape: Tape, x: Tensor) -> Tensor:
    """`x /= number` of a view. Backward copies the gradient of what it views and of the view itself (CopySlices)."""
    out = x.as_shape(x.shape)
    if tape.grad_enabled and x.requires_grad:
        out.node, out.slot = tape.view_node((x,), _scaled_backward), 0
    return out


def _scaled_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """torch/csrc/autograd/functions/tensor.cpp, CopySlices."""
    (gradient,) = gradients
    if gradient is None:
        return (None,)
    whole, part = e.like(tape, gradient, "clone"), e.like(tape, gradient, "clone")
    quotient = e.like(tape, gradient, "div backward")
    del part, quotient
    return (whole,)


def content_scores(tape: Tape, q: Tensor, k: Tensor) -> Tensor:
    """`bmm(q, k.transpose(-1, -2) / scale)`."""
    shape = (*q.shape[:-1], k.shape[-2])
    return bmm(tape, q, e.linear_unary(tape, "div", transposed(tape, k)), shape)


Products = Callable[[Tape, Tensor, Tensor], Tensor]
"""Contents [B, heads, S, d] with positions [B or 1, heads, P, d]: products [B, heads, S, P]."""


def repeated_products(tape: Tape, x: Tensor, positions: Tensor) -> Tensor:
    """Of positions that were repeated for every sequence: `torch.bmm(x, positions.transpose(-1, -2))`."""
    return bmm(tape, x, transposed(tape, positions), (*x.shape[:-1], positions.shape[-2]))


def broadcast_products(tape: Tape, x: Tensor, positions: Tensor) -> Tensor:
    """Of the same positions for all sequences: `torch.matmul`, which copies them for each."""
    positions, x = tape.lower(positions), tape.lower(x)
    x = attention.heads_first(tape, x)
    if x.shape[0] > 1:
        positions = attention.expanded_batch(tape, positions, x.shape[0])
    out = matmul(tape, x, transposed(tape, positions), (*x.shape[:-1], positions.shape[-2]))
    out.heads_first = True
    return out


def content_to_position(
    tape: Tape, q: Tensor, positions: Tensor, relative: Tensor, products: Products = repeated_products
) -> tuple[Tensor, Tensor]:
    """The products of queries with all positions, of which each key takes its own; and which it takes."""
    made = products(tape, q, positions)
    indices = relative_indices(tape, relative, negated=False)
    return gather(tape, made, indices, (*q.shape[:-1], relative.shape[-1])), indices


def position_to_content(
    tape: Tape, k: Tensor, positions: Tensor, relative: Tensor, products: Products = repeated_products
) -> tuple[Tensor, Tensor]:
    """The products of keys with all positions, of which each query takes its own; and which it takes."""
    indices = relative_indices(tape, relative, negated=True)
    made = products(tape, k, positions)
    return transposed(tape, gather(tape, made, indices, (*k.shape[:-1], k.shape[-2]))), indices


def relative_indices(tape: Tape, relative: Tensor, *, negated: bool) -> Tensor:
    """`clamp(±relative + span, 0, 2 · span - 1)`."""
    shape = relative.shape
    negative = tape.empty(shape, "int64", "neg") if negated else None
    shifted = tape.empty(shape, "int64", "add")
    del negative
    indices = tape.empty(shape, "int64", "clamp")
    del shifted
    return indices


def relative_positions(tape: Tape, length: int, *, buckets: bool) -> Tensor:
    """build_relative_position: the distances [1, S, S], in logarithmic buckets if the model has them."""
    shape = (1, length, length)
    distances = tape.empty(shape, "int64", "relative positions")
    if not buckets:
        return distances
    bucketed = _log_buckets(tape, distances)
    out = tape.empty(shape, "int64", "relative positions")
    del distances, bucketed
    return out


def _log_buckets(tape: Tape, relative: Tensor) -> Tensor:
    """make_log_bucket_position, as far as its names last."""
    shape = relative.shape
    sign = tape.empty(shape, "int64", "sign")
    comparisons = [tape.empty(shape, "bool", "compare") for _ in range(3)]
    absolute = tape.empty(shape, "int64", "abs")
    near = tape.empty(shape, "int64", "where")
    del comparisons, absolute
    log = tape.empty(shape, "float32", "log")
    return _selected(tape, (sign, near, log))


def _selected(tape: Tape, named: Sequence[Tensor]) -> Tensor:
    """`torch.where(abs_pos <= mid, relative_pos.type_as(log_pos), log_pos * sign)`."""
    shape = named[0].shape
    held = [tape.empty(shape, dtype, "bucket") for dtype in ("bool", "float32", "float32")]
    out = tape.empty(shape, "float32", "where")
    held.clear()
    return out
