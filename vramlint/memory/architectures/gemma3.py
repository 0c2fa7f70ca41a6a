"""Gemma 3: gemma 2 without soft caps, with norms on queries and keys and rotary tables for each kind of layer.

transformers 5.23 models/gemma3/modeling_gemma3.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec.structs import replace

from vramlint.memory.architectures.family import Config, number
from vramlint.memory.architectures.gemma2 import Gemma2
from vramlint.memory.architectures.layer_kinds import TABLES_BY_KIND_FROM, Kind, attention_types, every, tabled
from vramlint.memory.architectures.llama import Layer
from vramlint.memory.ops.rotary import Rotary, rotary
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class Gemma3(Gemma2):
    """Gemma3ForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"gemma3_text": ("q_proj", "v_proj")}
    defaults: ClassVar[Mapping[str, object]] = {
        **Gemma2.defaults,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "vocab_size": 262208,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    }

    scaled_embedding: ClassVar[bool] = True
    refuses_sdpa: ClassVar[bool] = False

    def __init__(self, build: Builder, config: Config) -> None:
        if config.get("use_bidirectional_attention"):
            raise NotFollowedError("bidirectional attention in Gemma 3")
        super().__init__(build, config)
        self.passes_all_tables = build.transformers < TABLES_BY_KIND_FROM
        self.caps_scores = False  # the key is read, its value is never passed on

    def _kinds(self, config: Config) -> Sequence[Kind]:
        types = attention_types(config, self.count, every(number(config, "sliding_window_pattern", default=6)))
        return tuple([Kind(attention) for attention in types])

    def _rotary_buffers(self, build: Builder, config: Config) -> None:
        for _ in tabled(self.attentions, self.transformers):
            super()._rotary_buffers(build, config)

    def _layer(self, build: Builder, config: Config, name: str) -> Layer:
        return replace(
            super()._layer(build, config, name),
            q_norm=build.norm(f"{name}.self_attn.q_norm.weight", self.head_size),
            k_norm=build.norm(f"{name}.self_attn.k_norm.weight", self.head_size),
        )

    def positions(self, tape: Tape, embedded: Tensor) -> Mapping[str, Rotary]:
        """Rotary tables of the global and of the local frequencies."""
        return {kind: rotary(tape, embedded, self.head_size) for kind in tabled(self.attentions, self.transformers)}
