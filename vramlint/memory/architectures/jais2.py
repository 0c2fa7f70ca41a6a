"""Jais 2: llama with layer norms, biases and an MLP of squared relu without a gate (transformers 5.23 models/jais2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.family import Config, LayerNorm
from vramlint.memory.architectures.feed_forward import FeedForward, PlainMlp
from vramlint.memory.architectures.llama import Llama, Norm
from vramlint.memory.weights import Builder


class Jais2(Llama):
    """Jais2ForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, object]] = {
        "num_attention_heads": 26,
        "vocab_size": 150272,
        "hidden_act": "relu2",
        "attention_bias": True,
        "mlp_bias": True,
    }

    def _norm(self, build: Builder, name: str) -> Norm:
        return LayerNorm.of(build, name, self.hidden)

    def _mlp(self, build: Builder, config: Config, name: str) -> FeedForward:
        bias = bool(config.get("mlp_bias"))
        return PlainMlp(
            up=build.linear(f"{name}.up_proj", self.hidden, self.intermediate, bias=bias),
            down=build.linear(f"{name}.down_proj", self.intermediate, self.hidden, bias=bias),
            activation=self.activation,
        )
