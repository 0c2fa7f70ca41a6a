"""GLM and GLM-4: llama with partial rotation and gate and up in one product (transformers 5.23 models/{glm,glm4})."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec.structs import asdict

from vramlint.memory.architectures import llama
from vramlint.memory.architectures.family import Config, number, ratio
from vramlint.memory.architectures.feed_forward import FeedForward, FusedMlp
from vramlint.memory.architectures.layer_kinds import FULL
from vramlint.memory.architectures.llama import Llama, Norm
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.rotary import Rotary, repeated, rotary, rotate_part
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class Layer(llama.Layer):
    """Weights of one decoder layer with norms behind both blocks too."""

    behind_attention: Norm
    behind_mlp: Norm


class Glm(Llama):
    """GlmForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, object]] = {
        "num_attention_heads": 32,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "vocab_size": 151552,
    }

    def __init__(self, build: Builder, config: Config) -> None:
        size = number(config, "head_dim", default=128)
        self.rotated = int(size * ratio(config, "partial_rotary_factor", default=0.5))
        super().__init__(build, config)

    def _rotary_buffers(self, build: Builder, config: Config) -> None:
        build.buffer(4 * self.rotated // 2)
        build.buffer(4 * self.rotated // 2)

    def _biases(self, config: Config) -> tuple[bool, bool]:
        return bool(config.get("attention_bias", True)), False

    def _mlp(self, build: Builder, config: Config, name: str) -> FeedForward:
        return FusedMlp.of(build, name, self.hidden, self.intermediate, self.activation)

    def positions(self, tape: Tape, embedded: Tensor) -> Mapping[str, Rotary]:
        """Rotary tables of the rotated part."""
        return {FULL: rotary(tape, embedded, self.rotated)}

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """apply_rotary_pos_emb of pairs."""
        return rotate_part(tape, q, k, repeated(tape, position))


class Glm4(Glm):
    """Glm4ForCausalLM."""

    def _layer(self, build: Builder, config: Config, name: str) -> Layer:
        base = super()._layer(build, config, name)
        return Layer(
            **asdict(base),
            behind_attention=self._norm(build, f"{name}.post_self_attn_layernorm"),
            behind_mlp=self._norm(build, f"{name}.post_mlp_layernorm"),
        )

    def _forward(
        self, tape: Tape, regime: Regime, w: llama.Layer, hidden: Tensor, position: Rotary | None, mask: Tensor | None
    ) -> Tensor:
        assert isinstance(w, Layer)  # noqa: S101  narrowing: _layer makes no other
        residual = hidden
        hidden = self.normalise(tape, hidden, w.input_norm)
        hidden = self._attention(tape, regime, w, hidden, position, mask)
        hidden = self.normalise(tape, hidden, w.behind_attention)
        hidden = e.add(tape, residual, hidden)
        residual = hidden
        hidden = self.normalise(tape, hidden, w.post_norm)
        hidden = self.feed_forward(tape, w, hidden)
        hidden = self.normalise(tape, hidden, w.behind_mlp)
        return e.add(tape, residual, hidden)
