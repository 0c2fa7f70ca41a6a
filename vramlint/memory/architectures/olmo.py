"""OLMo: llama with norms without weights, and clipped queries, keys and values (transformers 5.23 models/olmo)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.family import Config, LayerNorm
from vramlint.memory.architectures.layer_kinds import FULL, SLIDING
from vramlint.memory.architectures.llama import Layer, Llama, Norm
from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.norm import layer_norm_in_float32
from vramlint.memory.ops.rotary import Rotary, rotary, rotate_back_to
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class Olmo(Llama):
    """OlmoForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, object]] = {"num_attention_heads": 32, "vocab_size": 50304}

    def __init__(self, build: Builder, config: Config) -> None:
        self.clips = config.get("clip_qkv") is not None
        super().__init__(build, config)

    def _norm(self, build: Builder, name: str) -> Norm:
        return LayerNorm(None, None)

    def normalise(self, tape: Tape, x: Tensor, norm: Norm) -> Tensor:
        """OlmoLayerNorm."""
        return layer_norm_in_float32(tape, x)

    def positions(self, tape: Tape, embedded: Tensor) -> Mapping[str, Rotary]:
        """Rotary tables that stay in float32."""
        return dict.fromkeys((FULL, SLIDING), rotary(tape, embedded, self.head_size, "float32"))

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """apply_rotary_pos_emb with float32 tables."""
        return rotate_back_to(tape, q, k, position)

    def _attention(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, position: Rotary | None, mask: Tensor | None
    ) -> Tensor:
        q, k, v = (linear(tape, hidden, part) for part in (w.q, w.k, w.v))
        if self.clips:
            q, k, v = (e.clamp_in_place(tape, x) for x in (q, k, v))
        q = attention.split_heads(tape, q, self.heads)
        k = attention.split_heads(tape, k, self.kv_heads)
        v = attention.split_heads(tape, v, self.kv_heads)
        if position is not None:
            q, k = self.rotate(tape, q, k, position)
        return linear(tape, self._attend(tape, regime, q, k, v, mask), w.o)
