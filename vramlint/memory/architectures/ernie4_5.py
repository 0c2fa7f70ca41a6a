"""ERNIE 4.5: llama with float32 rotation of pairs and one switch for all biases (transformers 5.23 models/ernie4_5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.family import Config
from vramlint.memory.architectures.layer_kinds import FULL
from vramlint.memory.architectures.llama import Llama
from vramlint.memory.ops.rotary import Rotary, rotary, rotate_widened_parts
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class Ernie45(Llama):
    """Ernie4_5ForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, object]] = {
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "vocab_size": 103424,
        "tie_word_embeddings": True,
    }

    def __init__(self, build: Builder, config: Config) -> None:
        bias = bool(config.get("use_bias", False))
        super().__init__(build, {**config, "attention_bias": bias, "mlp_bias": bias, "attention_dropout": 0.0})

    def positions(self, tape: Tape, embedded: Tensor) -> Mapping[str, Rotary]:
        """Rotary tables that stay in float32."""
        return {FULL: rotary(tape, embedded, self.head_size, "float32")}

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """apply_rotary_pos_emb of pairs, in float32."""
        return rotate_widened_parts(tape, q, k, position)
