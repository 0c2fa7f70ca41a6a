"""dots.llm1: Qwen3's attention and DeepSeek's choice of experts (transformers 5.23 models/dots1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec.structs import replace

from vramlint.memory.architectures.deepseek import GroupedMixture
from vramlint.memory.architectures.family import Config, number
from vramlint.memory.architectures.layer_kinds import Kind, attention_types
from vramlint.memory.architectures.llama import Layer
from vramlint.memory.weights import Builder


class Dots1(GroupedMixture):
    """Dots1ForCausalLM."""

    defaults: ClassVar[Mapping[str, object]] = {
        "hidden_size": 4608,
        "intermediate_size": 10944,
        "moe_intermediate_size": 1408,
        "num_hidden_layers": 62,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 152064,
        "first_k_dense_replace": 0,
        "norm_topk_prob": False,
        "sliding_window": 4096,
        "max_window_layers": 62,
    }
    wide_bias: ClassVar[bool] = False

    def _kinds(self, config: Config) -> Sequence[Kind]:
        """Layers from number `max_window_layers` on slide."""
        first = number(config, "max_window_layers")
        types = attention_types(config, self.count, lambda at: self.window is not None and at >= first)
        return tuple([Kind(kind, sparse=self.is_sparse(config, at)) for at, kind in enumerate(types)])

    def _layer(self, build: Builder, config: Config, name: str) -> Layer:
        return replace(
            super()._layer(build, config, name),
            q_norm=build.norm(f"{name}.self_attn.q_norm.weight", self.head_size),
            k_norm=build.norm(f"{name}.self_attn.k_norm.weight", self.head_size),
        )
