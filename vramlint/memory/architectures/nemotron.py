"""Nemotron: layer norms with unit offset, partial rotation, squared relu (transformers 5.23 models/nemotron)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.family import Config, LayerNorm, number, ratio
from vramlint.memory.architectures.feed_forward import FeedForward, PlainMlp
from vramlint.memory.architectures.layer_kinds import FULL
from vramlint.memory.architectures.llama import Llama, Norm
from vramlint.memory.ops.norm import layer_norm_unit_offset
from vramlint.memory.ops.rotary import Rotary, rotary, rotate_part
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

ATTENTION_INTERFACE_FROM = (5, 0)
"""Since then attention and masks are those that most models share."""


class Nemotron(Llama):
    """NemotronForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, object]] = {
        "num_attention_heads": 48,
        "vocab_size": 256000,
        "hidden_act": "relu2",
    }

    def __init__(self, build: Builder, config: Config) -> None:
        width, heads = number(config, "hidden_size"), number(config, "num_attention_heads", default=48)
        size = number(config, "head_dim", default=width // heads)
        self.rotated = int(size * ratio(config, "partial_rotary_factor", default=0.5))
        super().__init__(build, config)

    def _rotary_buffers(self, build: Builder, config: Config) -> None:
        build.buffer(4 * self.rotated // 2)
        build.buffer(4 * self.rotated // 2)

    def _norm(self, build: Builder, name: str) -> Norm:
        return LayerNorm.of(build, name, self.hidden)

    def _mlp(self, build: Builder, config: Config, name: str) -> FeedForward:
        bias = bool(config.get("mlp_bias", False))
        return PlainMlp(
            up=build.linear(f"{name}.up_proj", self.hidden, self.intermediate, bias=bias),
            down=build.linear(f"{name}.down_proj", self.intermediate, self.hidden, bias=bias),
            activation=self.activation,
        )

    def masks(self, tape: Tape, regime: Regime, embedded: Tensor) -> Mapping[str, Tensor | None]:
        """The causal mask."""
        if regime.transformers >= ATTENTION_INTERFACE_FROM:
            return super().masks(tape, regime, embedded)
        return {FULL: regime.unshared_mask(tape, embedded)}

    def positions(self, tape: Tape, embedded: Tensor) -> Mapping[str, Rotary]:
        """Rotary tables of the rotated part."""
        return {FULL: rotary(tape, embedded, self.rotated)}

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """apply_rotary_pos_emb of the rotated part."""
        return rotate_part(tape, q, k, position)

    def normalise(self, tape: Tape, x: Tensor, norm: Norm) -> Tensor:
        """NemotronLayerNorm1P."""
        assert isinstance(norm, LayerNorm)  # noqa: S101  narrowing: _norm makes no other
        assert norm.weight is not None and norm.bias is not None  # noqa: S101  as _norm makes them
        return layer_norm_unit_offset(tape, x, norm.weight, norm.bias)

    def _attend(self, tape: Tape, regime: Regime, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        if regime.transformers >= ATTENTION_INTERFACE_FROM:
            return super()._attend(tape, regime, q, k, v, mask)
        return regime.attend_unshared(tape, q, k, v, mask, self.attention_dropout)
