"""Relative position biases (transformers 5.23 models/t5/modeling_t5.py, compute_bias)."""

from __future__ import annotations

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Shape, Tensor


def bias_table(tape: Tape, table: Parameter, shape: Shape) -> Tensor:
    """A view as [1, heads, T, S] of the bucket embeddings [T, S, heads]; the buckets are kept."""
    buckets = tape.empty(shape[2:], "int64", "buckets")
    return e.viewed(tape, embedding(tape, buckets, table), shape)
