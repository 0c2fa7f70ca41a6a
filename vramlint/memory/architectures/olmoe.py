"""OLMoE: experts, and norms on full-width queries and keys (transformers 5.23 models/olmoe)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec.structs import replace

from vramlint.memory.architectures.family import Config, number
from vramlint.memory.architectures.feed_forward import FeedForward
from vramlint.memory.architectures.llama import Layer, Norm
from vramlint.memory.architectures.mixture import Block
from vramlint.memory.architectures.own_attention import OwnAttention
from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.rotary import Rotary
from vramlint.memory.ops.routing import SoftmaxRouter
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class Olmoe(OwnAttention):
    """OlmoeForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, object]] = {
        "hidden_size": 2048,
        "intermediate_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "vocab_size": 50304,
        "num_experts": 64,
        "num_experts_per_tok": 8,
    }
    returns_logits: ClassVar[bool] = True

    def __init__(self, build: Builder, config: Config) -> None:
        self.clips = config.get("clip_qkv") is not None
        super().__init__(build, config)

    def _layer(self, build: Builder, config: Config, name: str) -> Layer:
        return replace(
            super()._layer(build, config, name),
            q_norm=build.norm(f"{name}.self_attn.q_norm.weight", self.hidden),
            k_norm=build.norm(f"{name}.self_attn.k_norm.weight", self.kv_heads * self.head_size),
        )

    def expert_width(self, config: Config) -> int:
        """The width that dense models have."""
        return number(config, "intermediate_size")

    def block(self, build: Builder, config: Config, name: str) -> FeedForward:
        """OlmoeSparseMoeBlock."""
        normalises = bool(config.get("norm_topk_prob", False))
        router = SoftmaxRouter(self.gate(build, name), self.chosen, normalises, self.lowers)
        return Block(router, self.build_experts(build, name, self.expert_width(config)), self.record)

    def _attention(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, position: Rotary | None, mask: Tensor | None
    ) -> Tensor:
        q = self._normed(tape, hidden, w.q, w.q_norm)
        k = self._normed(tape, hidden, w.k, w.k_norm)
        v = linear(tape, hidden, w.v)
        if self.clips:
            q, k, v = (e.clamp_in_place(tape, x) for x in (q, k, v))
        q = attention.split_heads(tape, q, self.heads)
        k = attention.split_heads(tape, k, self.kv_heads)
        v = attention.split_heads(tape, v, self.kv_heads)
        if position is not None:
            q, k = self.rotate(tape, q, k, position)
        return linear(tape, self._attend(tape, regime, q, k, v, mask), w.o)

    def _normed(self, tape: Tape, hidden: Tensor, weights: Weights, norm: Norm | None) -> Tensor:
        out = linear(tape, hidden, weights)
        return out if norm is None else self.normalise(tape, out, norm)
