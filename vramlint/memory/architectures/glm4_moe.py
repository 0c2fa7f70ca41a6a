"""GLM-4.5: partial rotation and DeepSeek's choice of experts (transformers 5.23 models/glm4_moe)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec.structs import replace

from vramlint.memory.architectures.deepseek import GroupedMixture
from vramlint.memory.architectures.family import Config, number, ratio
from vramlint.memory.architectures.layer_kinds import FULL
from vramlint.memory.architectures.llama import Layer, Norm
from vramlint.memory.ops import attention
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.rotary import Rotary, rotary, rotate_part
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class Glm4Moe(GroupedMixture):
    """Glm4MoeForCausalLM."""

    defaults: ClassVar[Mapping[str, object]] = {
        "hidden_size": 4096,
        "intermediate_size": 10944,
        "moe_intermediate_size": 1408,
        "num_hidden_layers": 46,
        "num_attention_heads": 96,
        "num_key_value_heads": 8,
        "vocab_size": 151552,
        "n_routed_experts": 128,
        "num_experts_per_tok": 8,
        "first_k_dense_replace": 1,
    }

    def __init__(self, build: Builder, config: Config) -> None:
        config = {**self.defaults, **config}
        heads = number(config, "num_attention_heads")
        size = number(config, "head_dim", default=number(config, "hidden_size") // heads)
        self.rotated = int(size * ratio(config, "partial_rotary_factor", default=0.5))
        super().__init__(build, config)

    def _rotary_buffers(self, build: Builder, config: Config) -> None:
        build.buffer(4 * self.rotated // 2)
        build.buffer(4 * self.rotated // 2)

    def _biases(self, config: Config) -> tuple[bool, bool]:
        return bool(config.get("attention_bias", False)), False

    def _layer(self, build: Builder, config: Config, name: str) -> Layer:
        layer = super()._layer(build, config, name)
        if not config.get("use_qk_norm", False):
            return layer
        return replace(
            layer,
            q_norm=build.norm(f"{name}.self_attn.q_norm.weight", self.head_size),
            k_norm=build.norm(f"{name}.self_attn.k_norm.weight", self.head_size),
        )

    def _attention(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, position: Rotary | None, mask: Tensor | None
    ) -> Tensor:
        """All projections come before the norms."""
        q, k, v = (linear(tape, hidden, part) for part in (w.q, w.k, w.v))
        q = self._normed(tape, q, w.q_norm, self.heads)
        k = self._normed(tape, k, w.k_norm, self.kv_heads)
        v = attention.split_heads(tape, v, self.kv_heads)
        if position is not None:
            q, k = self.rotate(tape, q, k, position)
        return linear(tape, self._attend(tape, regime, q, k, v, mask), w.o)

    def _normed(self, tape: Tape, x: Tensor, norm: Norm | None, heads: int) -> Tensor:
        if norm is not None:
            by_head = x.as_shape((*x.shape[:-1], heads, self.head_size))
            x = self.normalise(tape, by_head, norm).as_shape(x.shape)
        return attention.split_heads(tape, x, heads)

    def positions(self, tape: Tape, embedded: Tensor) -> Mapping[str, Rotary]:
        """Rotary tables of the rotated part."""
        return {FULL: rotary(tape, embedded, self.rotated)}

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """apply_rotary_pos_emb of a part."""
        return rotate_part(tape, q, k, position)
