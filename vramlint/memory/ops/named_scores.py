"""Eager attention that models wrote out in a module of their own: the scores keep their name until it returns.

transformers 4.57 models/bert, 5.23 models/mpnet. Tensors are [B, heads, S, d].
"""

from __future__ import annotations

from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.indexing import masked_fill
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor


def masked_scores(tape: Tape, q: Tensor, k: Tensor, mask: Tensor | None, bias: Tensor | None = None) -> Tensor:
    """`q @ k.T / √d`, to which a position bias is added in place, then the mask."""
    scores = e.linear_unary(tape, "div", attention.scores(tape, q, k))
    if bias is not None:
        scores = e.add_in_place(tape, scores, bias)
    return scores if mask is None else e.add(tape, scores, mask)


def filled_scores(tape: Tape, q: Tensor, k: Tensor) -> Tensor:
    """DistilBERT's: queries are scaled, and every layer makes a mask of its own (4.57 models/distilbert)."""
    q = e.linear_unary(tape, "div", q)
    scores = attention.scores(tape, q, k)
    return masked_fill(tape, scores, tape.empty((q.shape[0], k.shape[2]), "bool", "attention mask"))


def weighted_by(tape: Tape, scores: Tensor, v: Tensor, dropout: float) -> tuple[Tensor, Tensor]:
    """What the softmax of the scores, which live on, makes of the values, merged; and the softmax, dropped."""
    weights = e.dropout(tape, softmax(tape, scores, in_float32=False), dropout)
    return attention.merge_heads(tape, attention.weighted(tape, weights, v)), weights
