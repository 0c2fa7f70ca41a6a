"""Attention with the product of queries and keys in float32 (transformers 5.23 models/{gptj,codegen,gpt_neo})."""

from __future__ import annotations

from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor


def attend(
    tape: Tape, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, probability: float, *, window: bool = False
) -> tuple[Tensor, Tensor]:
    """`_attn` of [B, heads, S, d]: the heads' outputs and the probabilities.

    Scores are divided by a number, before the mask is added or after; with `window` they go through
    `torch.where(buffer, scores, number)` instead, as GPT-Neo's do.
    """
    q, k = tape.to(q, "float32"), tape.to(k, "float32")
    weights = attention.scores(tape, q, k)
    if window:
        buffer = Tensor((1, 1, *weights.shape[2:]), "bool", None)
        weights = e.where(tape, buffer, weights, "masked scores")
    else:
        weights = e.linear_unary(tape, "div", weights)
    if mask is not None:
        weights = e.add(tape, weights, mask)
    weights = softmax(tape, weights, in_float32=False)
    weights = tape.to(weights, v.dtype)
    weights = e.dropout(tape, weights, probability)
    return attention.weighted(tape, weights, v), weights
