"""MiniMax-M2: partial rotation, norms over all heads, routing by sigmoids (transformers 5.23 models/minimax_m2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec.structs import replace

from vramlint.memory.architectures.family import Config, number, ratio
from vramlint.memory.architectures.feed_forward import FeedForward
from vramlint.memory.architectures.layer_kinds import FULL
from vramlint.memory.architectures.llama import Layer, Norm
from vramlint.memory.architectures.mixture import Block, Mixture
from vramlint.memory.ops import attention
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.rotary import Rotary, rotary, rotate_part
from vramlint.memory.ops.routing import BiasedSigmoidRouter
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class MiniMaxM2(Mixture):
    """MiniMaxM2ForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    parts: ClassVar[tuple[str, str, str]] = ("w1", "w3", "w2")
    defaults: ClassVar[Mapping[str, object]] = {
        "hidden_size": 3072,
        "intermediate_size": 1536,
        "num_hidden_layers": 62,
        "num_attention_heads": 48,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 200064,
        "num_local_experts": 256,
        "num_experts_per_tok": 8,
    }

    def __init__(self, build: Builder, config: Config) -> None:
        config = {**self.defaults, **config}
        size = number(config, "head_dim")
        self.rotated = number(
            config, "rotary_dim", default=int(size * ratio(config, "partial_rotary_factor", default=1.0))
        )
        super().__init__(build, {**config, "attention_bias": False})

    def _rotary_buffers(self, build: Builder, config: Config) -> None:
        build.buffer(4 * self.rotated // 2)
        build.buffer(4 * self.rotated // 2)

    def _layer(self, build: Builder, config: Config, name: str) -> Layer:
        return replace(
            super()._layer(build, config, name),
            q_norm=build.norm(f"{name}.self_attn.q_norm.weight", self.heads * self.head_size),
            k_norm=build.norm(f"{name}.self_attn.k_norm.weight", self.kv_heads * self.head_size),
        )

    def block(self, build: Builder, config: Config, name: str) -> FeedForward:
        """MiniMaxM2SparseMoeBlock."""
        router = BiasedSigmoidRouter(build.target(f"{name}.gate.weight", (self.experts, self.hidden)), self.chosen)
        build.buffer(build.width * self.experts)
        experts = self.build_experts(build, name, number(config, "intermediate_size"))
        jitters = ratio(config, "router_jitter_noise", default=0.0) > 0
        return Block(router, experts, self.record, jitters)

    def positions(self, tape: Tape, embedded: Tensor) -> Mapping[str, Rotary]:
        """Rotary tables of the rotated part."""
        return {FULL: rotary(tape, embedded, self.rotated)}

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """apply_rotary_pos_emb of a part."""
        return rotate_part(tape, q, k, position)

    def _projected(self, tape: Tape, hidden: Tensor, w: Weights, norm: Norm | None, heads: int) -> Tensor:
        out = linear(tape, hidden, w)
        return attention.split_heads(tape, out if norm is None else self.normalise(tape, out, norm), heads)
