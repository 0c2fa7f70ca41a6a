"""Phi-3.5-MoE: LayerNorms, biases, and two experts drawn with noise (transformers 5.23 models/phimoe)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct

from vramlint.memory.architectures.family import Config, LayerNorm, number, ratio
from vramlint.memory.architectures.feed_forward import FeedForward
from vramlint.memory.architectures.layer_kinds import FULL, SLIDING, Kind
from vramlint.memory.architectures.llama import Norm
from vramlint.memory.architectures.mixture import Record
from vramlint.memory.architectures.own_attention import OwnAttention
from vramlint.memory.ops.experts import Experts
from vramlint.memory.ops.jitter import jittered, jittered_view
from vramlint.memory.ops.linear import Weights
from vramlint.memory.ops.rotary import Rotary, rotate
from vramlint.memory.ops.sparse_mixer import SparseMixer
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class NoisyBlock(Struct):
    """PhimoeSparseMoeBlock."""

    router: SparseMixer
    experts: Experts
    record: Record
    jitters: bool
    jitters_twice: bool
    """Whether the router does it again, in place."""

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        """Map [B, S, H] to [B, S, H]."""
        if self.jitters:
            x = jittered(tape, x)
        flat = x.as_shape((x.numel // x.shape[-1], x.shape[-1]))
        if self.jitters_twice:
            flat = jittered_view(tape, flat)
        logits, scores, indices = self.router(tape, flat)
        self.record(tape, logits)
        out = self.experts(tape, flat, scores, indices).as_shape(x.shape)
        del logits
        return out


class PhiMoe(OwnAttention):
    """PhimoeForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    module: ClassVar[str] = "block_sparse_moe"
    parts: ClassVar[tuple[str, str, str]] = ("w1", "w3", "w2")
    converts_targets: ClassVar[bool] = False
    returns_logits: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, object]] = {
        "hidden_size": 4096,
        "intermediate_size": 6400,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32064,
        "num_local_experts": 16,
        "num_experts_per_tok": 2,
    }

    def __init__(self, build: Builder, config: Config) -> None:
        if number(config, "num_experts_per_tok", default=2) != 2:
            raise NotFollowedError("more or less than two experts per token")
        super().__init__(build, config)

    def _kinds(self, config: Config) -> tuple[Kind, ...]:
        """All layers slide if there is a window."""
        return (Kind(FULL if self.window is None else SLIDING, sparse=True),) * self.count

    def _rotary_buffers(self, build: Builder, config: Config) -> None:
        if self.fused:
            super()._rotary_buffers(build, config)

    def _norm(self, build: Builder, name: str) -> Norm:
        return LayerNorm.of(build, name, self.hidden)

    def build_head(
        self, build: Builder, config: Config, name: str, width: int, vocabulary: int, *, ties: bool, bias: bool = False
    ) -> Weights:
        """The head may have a bias."""
        bias = bool(config.get("lm_head_bias", bias))
        return super().build_head(build, config, name, width, vocabulary, ties=ties, bias=bias)

    def block(self, build: Builder, config: Config, name: str) -> FeedForward:
        """PhimoeSparseMoeBlock."""
        router = SparseMixer(
            build.linear(f"{name}.router" if self.fused else f"{name}.gate", self.hidden, self.experts)
        )
        experts = self.build_experts(build, name, number(config, "intermediate_size"))
        jitters = ratio(config, "input_jitter_noise", default=0.0) > 0
        return NoisyBlock(router, experts, self.record, jitters, jitters and self.fused)

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """apply_rotary_pos_emb; before the experts were fused every layer looked up its own rows of the tables."""
        if not self.fused:
            position = Rotary(*[tape.empty(table.shape, table.dtype, "index") for table in position])
        return rotate(tape, q, position), rotate(tape, k, position)
