"""Seed-OSS: llama with dropouts behind attention and MLP (transformers 5.23 models/seed_oss)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec.structs import replace

from vramlint.memory.architectures.family import Config, probability
from vramlint.memory.architectures.feed_forward import FeedForward, GatedMlp
from vramlint.memory.architectures.llama import Layer, Llama
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.rotary import Rotary
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class SeedOss(Llama):
    """SeedOssForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, object]] = {
        "num_attention_heads": 80,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 155136,
        "attention_dropout": 0.1,
    }

    def __init__(self, build: Builder, config: Config) -> None:
        self.dropout = probability(config, "residual_dropout", default=0.1)
        super().__init__(build, config)

    def _biases(self, config: Config) -> tuple[bool, bool]:
        return bool(config.get("attention_bias", True)), bool(config.get("attention_out_bias", False))

    def _mlp(self, build: Builder, config: Config, name: str) -> FeedForward:
        bias = bool(config.get("mlp_bias", False))
        mlp = GatedMlp.of(build, name, self.hidden, self.intermediate, self.activation, bias=bias)
        return replace(mlp, dropout=self.dropout)

    def _attention(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, position: Rotary | None, mask: Tensor | None
    ) -> Tensor:
        return e.dropout(tape, super()._attention(tape, regime, w, hidden, position, mask), self.dropout)
