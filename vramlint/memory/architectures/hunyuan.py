"""HunYuan dense: llama with norms on rotated queries and keys (transformers 5.23 models/hunyuan_v1_dense)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec.structs import replace

from vramlint.memory.architectures.family import Config
from vramlint.memory.architectures.llama import Layer, Llama
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.rotary import Rotary
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class HunYuanDense(Llama):
    """HunYuanDenseV1ForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, object]] = {"num_attention_heads": 32, "vocab_size": 290943}

    def _layer(self, build: Builder, config: Config, name: str) -> Layer:
        return replace(
            super()._layer(build, {**config, "mlp_bias": False}, name),
            q_norm=build.norm(f"{name}.self_attn.query_layernorm.weight", self.head_size),
            k_norm=build.norm(f"{name}.self_attn.key_layernorm.weight", self.head_size),
        )

    def _attention(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, position: Rotary | None, mask: Tensor | None
    ) -> Tensor:
        q = self._projected(tape, hidden, w.q, None, self.heads)
        k = self._projected(tape, hidden, w.k, None, self.kv_heads)
        v = self._projected(tape, hidden, w.v, None, self.kv_heads)
        if position is not None:
            q, k = self.rotate(tape, q, k, position)
        if w.q_norm is not None and w.k_norm is not None:
            q = self.normalise(tape, q, w.q_norm)
            k = self.normalise(tape, k, w.k_norm)
        return linear(tape, self._attend(tape, regime, q, k, v, mask), w.o)
