"""Helium: llama with norms scaled in float32 and rotation of pairs (transformers 5.23 models/helium)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.family import Config, LayerNorm
from vramlint.memory.architectures.llama import Llama, Norm
from vramlint.memory.ops.norm import rms_norm_scaled_wide
from vramlint.memory.ops.rotary import Rotary, repeated, rotate
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor


class Helium(Llama):
    """HeliumForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, object]] = {
        "num_attention_heads": 20,
        "num_key_value_heads": 20,
        "head_dim": 128,
        "vocab_size": 48000,
    }

    def _biases(self, config: Config) -> tuple[bool, bool]:
        return bool(config.get("attention_bias", False)), False

    def normalise(self, tape: Tape, x: Tensor, norm: Norm) -> Tensor:
        """HeliumRMSNorm."""
        assert not isinstance(norm, LayerNorm)  # noqa: S101  narrowing: there are no other norms
        return rms_norm_scaled_wide(tape, x, norm, widens=True)

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """apply_rotary_pos_emb of pairs."""
        position = repeated(tape, position)
        q_embed = rotate(tape, q, position)
        return q_embed, rotate(tape, k, position)
