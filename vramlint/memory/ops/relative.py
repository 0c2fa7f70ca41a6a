"""Relative position biases (transformers 5.23 models/t5/modeling_t5.py, compute_bias)."""

from __future__ import annotations

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Shape, Tensor


def bias_mask(tape: Tape, bias: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
    """The additive mask of sdpa from a position bias [1, heads, T, S] (5.23 integrations/sdpa_attention.py).

    A bias from a table lies in memory with its heads last: so does what is made of it, until it is copied.
    """
    if causal and mask is None:
        mask = tape.empty((1, 1, *bias.shape[2:]), "bool", "causal mask")
    strided = not bias.heads_first
    if mask is not None:
        bias = e.where(tape, mask, bias) if mask.dtype == "bool" else e.add(tape, bias, mask)
    if strided:
        bias = e.clone(tape, bias)
    bias.heads_first = True
    return bias


def bias_table(tape: Tape, table: Parameter, shape: Shape) -> Tensor:
    """A view as [1, heads, T, S] of the bucket embeddings [T, S, heads]; the buckets are kept."""
    buckets = tape.empty(shape[2:], "int64", "buckets")
    return e.viewed(tape, embedding(tape, buckets, table), shape)
