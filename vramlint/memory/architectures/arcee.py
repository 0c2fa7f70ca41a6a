"""Arcee: llama with an MLP of squared relu without a gate (transformers 5.18 models/arcee)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.family import Config
from vramlint.memory.architectures.feed_forward import FeedForward, PlainMlp
from vramlint.memory.architectures.llama import Llama
from vramlint.memory.weights import Builder


class Arcee(Llama):
    """ArceeForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, object]] = {
        "num_attention_heads": 32,
        "vocab_size": 32000,
        "hidden_act": "relu2",
    }

    def _mlp(self, build: Builder, config: Config, name: str) -> FeedForward:
        bias = bool(config.get("mlp_bias", False))
        return PlainMlp(
            up=build.linear(f"{name}.up_proj", self.hidden, self.intermediate, bias=bias),
            down=build.linear(f"{name}.down_proj", self.intermediate, self.hidden, bias=bias),
            activation=self.activation,
        )
