"""Mistrals with windows by layer or scaled queries, and CWM (transformers 5.23 models/{ministral,ministral3,cwm})."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from vramlint.memory.architectures.family import Config
from vramlint.memory.architectures.layer_kinds import Kind, attention_types
from vramlint.memory.architectures.llama import Llama
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.rotary import Rotary
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor


class Ministral(Llama):
    """MinistralForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, object]] = {
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
        "sliding_window": 4096,
    }
    builds_both_masks: ClassVar[bool] = True

    def _kinds(self, config: Config) -> Sequence[Kind]:
        types = attention_types(config, self.count, lambda _: self.window is not None)
        return tuple([Kind(attention) for attention in types])

    def _biases(self, config: Config) -> tuple[bool, bool]:
        return False, False


class Cwm(Ministral):
    """CwmForCausalLM."""

    defaults: ClassVar[Mapping[str, object]] = {
        "num_attention_heads": 48,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 128256,
        "sliding_window": 8192,
    }

    def _kinds(self, config: Config) -> Sequence[Kind]:
        types = attention_types(config, self.count, lambda index: bool(index % 4))
        return tuple([Kind(attention) for attention in types])


class Ministral3(Llama):
    """Ministral3ForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, object]] = {
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 131072,
    }

    def _biases(self, config: Config) -> tuple[bool, bool]:
        return False, False

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """apply_rotary_pos_emb, then queries times a factor that grows with the position."""
        q, k = super().rotate(tape, q, k, position)
        scale = tape.empty((1, 1, q.shape[2], 1), q.dtype, "attention scale")
        return e.mul(tape, q, scale), k
