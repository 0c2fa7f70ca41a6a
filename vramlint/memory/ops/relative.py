"""Relative position biases: T5's buckets, and the tables of windows of patches."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Shape, Tensor

CLASS_DISTANCES = 3
"""Rows at the end of a table: class token to patch, patch to class token, class token to itself."""


def bias_mask(tape: Tape, bias: Tensor, mask: Tensor | None, *, causal: bool, copies: bool) -> Tensor:
    """The additive mask of sdpa from a position bias [1, heads, T, S] (5.23 integrations/sdpa_attention.py).

    A bias from a table lies in memory with its heads last: so does what is made of it, until it is copied. Before
    transformers 5.20 it was not: `copies`.
    """
    if causal and mask is None:
        mask = tape.empty((1, 1, *bias.shape[2:]), "bool", "causal mask")
    strided = not bias.heads_first
    if mask is not None:
        bias = e.where(tape, mask, bias) if mask.dtype == "bool" else e.add(tape, bias, mask)
    if strided and copies:
        bias = e.clone(tape, bias)
    bias.heads_first = copies or not strided
    return bias


def bias_table(tape: Tape, table: Parameter, shape: Shape) -> Tensor:
    """A view as [1, heads, T, S] of the bucket embeddings [T, S, heads]; the buckets are kept.

    transformers 5.23 models/t5/modeling_t5.py, compute_bias
    """
    buckets = tape.empty(shape[2:], "int64", "buckets")
    return shaping.viewed(tape, embedding(tape, buckets, table), shape)


def window_bias(tape: Tape, table: Tensor, positions: int) -> Tensor:
    """The rows of a table [distances, heads] for all pairs of positions, as [1, heads, positions, positions].

    The index lies elsewhere: a buffer, or on the host (models/swin/modeling_swin.py, SwinRelativePositionBias).
    """
    heads = table.shape[1]
    bias = shaping.index(tape, table, (positions * positions, heads))
    bias = e.clone(tape, shaping.viewed(tape, bias, (1, heads, positions, positions)))
    bias.heads_first = True
    return bias


def resized_window_bias(tape: Tape, table: Parameter, grid: tuple[int, int]) -> Tensor:
    """`window_bias` of a table that is first interpolated to the image's own grid, always.

    models/beit/modeling_beit.py, BeitRelativePositionBias.forward
    """
    distances, heads = table.shape
    shape = (1, heads, 2 * grid[1] - 1, 2 * grid[0] - 1)
    old = shaping.part(tape, table, shape)
    new = tape.apply("upsample", (old,), shape, table.dtype, _same_size_backward)
    rows = shaping.viewed(tape, new, (distances - CLASS_DISTANCES, heads))
    rest = shaping.part(tape, table, (CLASS_DISTANCES, heads))
    whole = tape.apply("cat", (rows, rest), (distances, heads), table.dtype, _parts_backward)
    return window_bias(tape, whole, grid[0] * grid[1] + 1)


def _same_size_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    return (None if gradient is None else tape.empty(gradient.shape, gradient.dtype, "upsample backward"),)


def _parts_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    return [None if edge is None or gradient is None else gradient.as_shape(edge[2]) for edge in node.edges]
