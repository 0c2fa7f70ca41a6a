"""Attention classes that models kept for themselves until transformers 5 (4.57 models/{qwen2_moe,olmoe,phimoe})."""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.memory.architectures.layer_kinds import FULL, SLIDING
from vramlint.memory.architectures.mixture import Mixture
from vramlint.memory.ops import attention, sdpa
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor


class OwnAttention(Mixture):
    """A mixture of experts whose attention, before the experts were fused, was its own."""

    def masks(self, tape: Tape, regime: Regime, embedded: Tensor) -> Mapping[str, Tensor | None]:
        """One mask for all layers before experts were fused."""
        if self.fused:
            return super().masks(tape, regime, embedded)
        return dict.fromkeys((FULL, SLIDING), own_mask(tape, regime, embedded, self.window))

    def _attend(self, tape: Tape, regime: Regime, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Heads are repeated for every kernel, and copied into one piece for sdpa with a mask."""
        if self.fused:
            return super()._attend(tape, regime, q, k, v, mask)
        if regime.use_cache:
            k, v = attention.cached(tape, k, k.dtype), attention.cached(tape, v, k.dtype)
            tape.lifetimes.keep(k)
            tape.lifetimes.keep(v)
        repeats = q.shape[1] // k.shape[1]
        k, v = attention.repeat_heads(tape, k, repeats), attention.repeat_heads(tape, v, repeats)
        if regime.implementation == "eager":
            return attention.merge_heads(tape, _eager(tape, q, k, v, mask, self.attention_dropout))
        if mask is not None:
            q, k, v = (attention.contiguous(tape, x) for x in (q, k, v))
        out = sdpa.scaled_dot_product(tape, q, k, v, mask, self.attention_dropout, regime.kernels)
        return attention.merge_heads(tape, out)


def own_mask(tape: Tape, regime: Regime, like: Tensor, window: int | None) -> Tensor | None:
    """`_update_causal_mask`: additive, even for sdpa; without an attention_mask not expanded, and a column longer."""
    batch, length = like.shape[0], like.shape[1]
    if regime.implementation == "sdpa":
        padded = regime.padding and regime.attention_mask
        if not padded and (window is None or length < window):
            return None
    elif regime.implementation != "eager":
        return None
    if regime.attention_mask:
        return tape.empty((batch, 1, length, length), like.dtype, "attention mask")
    return tape.empty((length, length + 1), like.dtype, "attention mask").as_shape((1, 1, length, length))


def _eager(tape: Tape, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """The eager formula; no name outside of the attention class keeps its weights."""
    weights = e.linear_unary(tape, "div", attention.scores(tape, q, k))
    if mask is not None:
        weights = e.add(tape, weights, mask)
    weights = tape.to(softmax(tape, weights, in_float32=True), q.dtype)
    return attention.weighted(tape, e.dropout(tape, weights, dropout), v)
