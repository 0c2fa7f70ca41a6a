"""Eager attention with a learned logit per head that takes probability and gives nothing (models/gpt_oss)."""

from __future__ import annotations

from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.selection import topk
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor


def eager_with_sinks(
    tape: Tape,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    sinks: Tensor,
    probability: float,
    *,
    narrows: bool,
) -> Tensor:
    """eager_attention_forward of GPT-OSS, merged to [B, S, heads·d]; `narrows` casts weights to the values' dtype."""
    batch, heads, length, _ = q.shape
    repeats = heads // k.shape[1]
    k = attention.repeat_heads(tape, k, repeats)
    v = attention.repeat_heads(tape, v, repeats)
    weights = e.linear_unary(tape, "mul", attention.scores(tape, q, k))
    if mask is not None:
        weights = e.add(tape, weights, mask)
    column = e.expanded(tape, shaping.viewed(tape, sinks, (1, heads, 1, 1)), (batch, heads, length, 1))
    combined = shaping.concatenate_last(tape, weights, column)
    combined = e.sub(tape, combined, topk(tape, combined, 1)[0])
    with tape.autocasting(None):
        probabilities = softmax(tape, combined, in_float32=False)
    chosen = shaping.slice_last(tape, probabilities, k.shape[2])
    dropped = e.dropout(tape, chosen, probability)
    weights = tape.to(dropped, v.dtype) if narrows else dropped
    tape.held.append(weights)
    out = attention.weighted(tape, weights, v)
    del combined, chosen, dropped
    return attention.merge_heads(tape, out)
