"""EXAONE 4: norms behind the blocks and on every head, layers that do not rotate (transformers 5.23 models/exaone4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec.structs import replace

from vramlint.memory.architectures.family import Config, number
from vramlint.memory.architectures.layer_kinds import SLIDING, Kind, attention_types, every
from vramlint.memory.architectures.llama import Layer
from vramlint.memory.architectures.olmo2 import NormsBehind
from vramlint.memory.weights import Builder


class Exaone4(NormsBehind):
    """Exaone4ForCausalLM."""

    defaults: ClassVar[Mapping[str, object]] = {
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 102400,
        "sliding_window": 4096,
    }

    def _kinds(self, config: Config) -> Sequence[Kind]:
        stated = config.get("sliding_window_pattern", 4)
        period = len(stated) if isinstance(stated, str) else number({"period": stated}, "period", default=0)
        types = attention_types(config, self.count, every(0 if self.window is None else period))
        return tuple([Kind(attention, rotates=self.window is None or attention == SLIDING) for attention in types])

    def _biases(self, config: Config) -> tuple[bool, bool]:
        return False, False

    def _layer(self, build: Builder, config: Config, name: str) -> Layer:
        return replace(
            super()._layer(build, config, name),
            q_norm=build.norm(f"{name}.self_attn.q_norm.weight", self.head_size),
            k_norm=build.norm(f"{name}.self_attn.k_norm.weight", self.head_size),
        )
