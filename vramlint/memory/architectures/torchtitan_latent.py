"""torchtitan's DeepSeek V3: latent attention and experts (torchtitan 0.2 models/deepseek_v3/model/model.py)."""

from __future__ import annotations

from typing import ClassVar

from vramlint.memory.architectures.family import Config, number
from vramlint.memory.architectures.torchtitan_moe import MixtureTransformer
from vramlint.memory.architectures.torchtune import Attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.fused_attention import fused
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.rotary import rotate_pairs_widened
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class LatentAttention(Attention):
    """Weights: `k` compresses keys and values, `v` expands them again; `q` expands queries where `compress` is."""

    compress: Weights | None = None


class LatentTransformer(MixtureTransformer):
    """torchtitan.models.deepseek_v3.DeepSeekV3Model."""

    compiles: ClassVar[bool] = False

    def __init__(self, build: Builder, config: Config) -> None:
        self.query_rank = number(config, "q_lora_rank", default=0)
        self.rank = number(config, "kv_lora_rank")
        self.plain, self.rotated = number(config, "qk_nope_head_dim"), number(config, "qk_rope_head_dim")
        self.value = number(config, "v_head_dim")
        super().__init__(build, config)

    def _attention_of(self, build: Builder, name: str) -> Attention:
        wide, block = self.heads * (self.plain + self.rotated), f"{name}.attn"
        compress = q_norm = None
        if self.query_rank:
            compress = build.linear(f"{block}.wq_a", self.hidden, self.query_rank)
            q_norm = build.norm(f"{block}.q_norm.weight", self.query_rank)
        return LatentAttention(
            q=build.linear(f"{block}.wq", self.query_rank or self.hidden, wide),
            k=build.linear(f"{block}.wkv_a", self.hidden, self.rank + self.rotated),
            k_norm=build.norm(f"{block}.kv_norm.weight", self.rank),
            v=build.linear(f"{block}.wkv_b", self.rank, self.heads * (self.plain + self.value)),
            output=build.linear(f"{block}.wo", self.heads * self.value, self.hidden),
            q_norm=q_norm,
            compress=compress,
        )

    def _attention(self, tape: Tape, regime: Regime, w: Attention, x: Tensor) -> Tensor:
        """Attention.forward; what it names lives until it returns."""
        assert isinstance(w, LatentAttention) and w.k_norm is not None  # noqa: S101  narrowing
        batch, length, _ = x.shape
        heads = (batch, length, self.heads)
        hidden = x
        if w.compress is not None and w.q_norm is not None:
            hidden = self._normalise(tape, linear(tape, x, w.compress), w.q_norm)
        q = shaping.viewed(tape, linear(tape, hidden, w.q), (*heads, self.plain + self.rotated))
        del hidden
        q_plain, q_turned = shaping.split_last(tape, q, (self.plain, self.rotated))
        q_turned = rotate_pairs_widened(tape, q_turned)
        q = shaping.concatenate_last(tape, q_plain, q_turned)
        latent, turned = shaping.split_last(tape, linear(tape, x, w.k), (self.rank, self.rotated))
        turned = rotate_pairs_widened(tape, shaping.viewed(tape, turned, (batch, length, 1, self.rotated)))
        expanded = linear(tape, self._normalise(tape, latent, w.k_norm), w.v)
        expanded = shaping.viewed(tape, expanded, (*heads, self.plain + self.value))
        k_plain, v = shaping.split_last(tape, expanded, (self.plain, self.value))
        k = shaping.concatenate_last(tape, k_plain, e.expanded(tape, turned, (*heads, self.rotated)))
        out = fused(tape, *(_heads_seen_first(tape, one) for one in (q, k, v)))
        merged = shaping.viewed(tape, out, (batch, length, self.heads * self.value))
        result = self._row(tape, merged, w.output)
        del q_plain, q_turned, latent, turned, expanded, k_plain
        return result


def _heads_seen_first(tape: Tape, x: Tensor) -> Tensor:
    """[B, S, heads, d] as [B, heads, S, d], in the same memory."""
    batch, length, heads, size = x.shape
    out = shaping.viewed(tape, x, (batch, heads, length, size))
    out.heads_first = False
    return out
