"""Attention with the product of queries and keys in float32 (transformers 5.23 models/{gptj,codegen,gpt_neo})."""

from __future__ import annotations

from msgspec import Struct

from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor


class Scoring(Struct, frozen=True):
    """What becomes of scores before their softmax; GPT-J divides them, then adds the mask."""

    windowed: bool = False
    """They are not divided but go through `torch.where(buffer, scores, number)`, as GPT-Neo's do."""
    masked_first: bool = False
    """The mask is added before they are divided, as CodeGen does."""
    in_place: bool = False
    """The mask is added with `+=`."""


def attend(
    tape: Tape, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, probability: float, scoring: Scoring
) -> tuple[Tensor, Tensor]:
    """`_attn` of [B, heads, S, d]: the heads' outputs and the probabilities."""
    q, k = tape.to(q, "float32"), tape.to(k, "float32")
    weights = attention.scores(tape, q, k)
    if scoring.windowed:
        buffer = Tensor((1, 1, *weights.shape[2:]), "bool", None)
        weights = e.where(tape, buffer, weights, "masked scores")
    elif not scoring.masked_first:
        weights = e.linear_unary(tape, "div", weights)
    if mask is not None:
        weights = e.add_in_place(tape, weights, mask) if scoring.in_place else e.add(tape, weights, mask)
    if scoring.masked_first:
        weights = e.linear_unary(tape, "div", weights)
    weights = softmax(tape, weights, in_float32=False)
    weights = tape.to(weights, v.dtype)
    weights = e.dropout(tape, weights, probability)
    return attention.weighted(tape, weights, v), weights
