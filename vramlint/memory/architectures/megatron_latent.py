"""Megatron-Core's multi-latent attention (NVIDIA/Megatron-LM@d98e8a6 core/transformer/multi_latent_attention.py).

Queries, and keys with values, go through narrow matrices that every rank has whole, and wide ones that are divided by
heads. Made of Transformer Engine's modules (core/models/gpt/gpt_layer_specs.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from vramlint.memory.architectures.family import Config, number
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import latent, megatron, shaping
from vramlint.memory.ops.linear import Weights
from vramlint.memory.ops.selection import joined
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder


class LatentWeights(Struct):
    """Of one layer; the norms are empty without `qk_norm`, which puts them into the products behind them."""

    q_down: Weights | None
    q_norm: tuple[Parameter, ...]
    q_up: Weights
    kv_down: Weights
    kv_norm: tuple[Parameter, ...]
    kv_up: Weights


class LatentAttention:
    """From normalised hidden states to queries, keys and values."""

    def __init__(self, config: Config, group: megatron.Group) -> None:
        self.hidden = number(config, "hidden_size")
        self.heads = number(config, "num_attention_heads")
        self.q_rank = number(config, "q_lora_rank", default=0)
        self.kv_rank = number(config, "kv_lora_rank")
        self.plain = number(config, "qk_nope_head_dim")
        self.rotary = number(config, "qk_rope_head_dim")
        self.value = number(config, "v_head_dim")
        self.norm_biased = config.get("normalization") != "RMSNorm"
        self.normed = bool(config.get("qk_norm"))
        self.group = group
        self.whole = replace(group, ranks=1, sequence=False)
        """Of the narrow matrices: each rank takes its own part of the sequence."""

    def build(self, build: Builder, name: str) -> LatentWeights:
        """The matrices of one layer."""
        width = self.plain + self.rotary
        down, up = f"{name}.linear_q_down_proj", f"{name}.linear_q_up_proj"
        kv_down, kv_up = f"{name}.linear_kv_down_proj", f"{name}.linear_kv_up_proj"
        return LatentWeights(
            q_down=build.linear(down, self.hidden, self.q_rank) if self.q_rank else None,
            q_norm=self._norm(build, up, self.q_rank) if self.q_rank else (),
            q_up=build.linear(up, self.q_rank or self.hidden, self.heads * width),
            kv_down=build.linear(kv_down, self.hidden, self.kv_rank + self.rotary),
            kv_norm=self._norm(build, kv_up, self.kv_rank),
            kv_up=build.linear(kv_up, self.kv_rank, self.heads * (self.plain + self.value)),
        )

    def _norm(self, build: Builder, name: str, width: int) -> tuple[Parameter, ...]:
        if not self.normed:
            return ()
        parts = ("weight", "bias") if self.norm_biased else ("weight",)
        return tuple([build.norm(f"{name}.layer_norm_{part}", width) for part in parts])

    def narrowed(self, tape: Tape, x: Tensor, w: LatentWeights) -> tuple[Tensor, Tensor, Tensor]:
        """[B, S / ranks, H] as what the wide matrices take of queries, keys and values, and the keys' positions."""
        narrow = x if w.q_down is None else megatron.column(tape, x, w.q_down, self.whole)
        pairs = megatron.column(tape, x, w.kv_down, self.whole)
        compressed, position = shaping.split_last(tape, pairs, (self.kv_rank, self.rotary))
        del pairs
        return narrow, compressed, megatron.gathered(tape, position, self.group)

    def widened(self, tape: Tape, parts: Sequence[Tensor], w: LatentWeights) -> tuple[Tensor, Tensor, Tensor]:
        """qkv_up_proj_and_rope_apply: queries, keys and values [B, heads, S, d]."""
        narrow, compressed, position = parts
        q = self._up(tape, narrow, w.q_norm, w.q_up)
        kv = self._up(tape, compressed, w.kv_norm, w.kv_up)
        plain, turned = latent.split_parts(tape, q, (self.plain, self.rotary))
        shape = q.shape
        del q
        keys, values = latent.split_parts(tape, kv, (self.plain, self.value))
        del kv
        query = joined(tape, (plain, e.linear_unary(tape, "rotary", turned)), shape)
        del plain, turned
        position = e.linear_unary(tape, "rotary", position.as_shape((shape[0], 1, *shape[2:3], self.rotary)))
        key = joined(tape, (keys, latent.expanded(tape, position, self.heads)), shape)
        del keys, position
        return query, key, e.clone(tape, values)

    def _up(self, tape: Tape, x: Tensor, norm: tuple[Parameter, ...], weights: Weights) -> Tensor:
        """[B, heads, S, d] of a divided product."""
        if norm:
            made = megatron.norm_column(tape, x, norm, weights, self.group)
        else:
            made = megatron.column(tape, x, weights, self.group)
        width = weights.out_features
        return megatron.split_heads(tape, made, (width,), width // self.heads, joint=True)[0]
