"""Command R: one norm before both branches, rotation in float32; Cohere 2 has windows and layers that do not rotate.

transformers 5.23 models/{cohere,cohere2}/modeling_*.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec.structs import replace

from vramlint.memory.architectures.family import Config, LayerNorm, number
from vramlint.memory.architectures.layer_kinds import SLIDING, Kind, attention_types, every
from vramlint.memory.architectures.llama import Layer, Llama, Norm
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.norm import layer_norm_of_operators
from vramlint.memory.ops.rotary import Rotary, rotate_widened
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class Cohere(Llama):
    """CohereForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, object]] = {
        "num_attention_heads": 64,
        "vocab_size": 256000,
        "tie_word_embeddings": True,
    }

    def _norm(self, build: Builder, name: str) -> Norm:
        if name.endswith(self.norm_names[1]):
            return LayerNorm(None, None)  # there is no second norm
        return build.norm(f"{name}.weight", self.hidden)

    def _layer(self, build: Builder, config: Config, name: str) -> Layer:
        layer = super()._layer(build, config, name)
        if not config.get("use_qk_norm", False):
            return layer
        return replace(
            layer,
            q_norm=build.parameter(f"{name}.self_attn.q_norm.weight", (self.heads, self.head_size), decay=False),
            k_norm=build.parameter(f"{name}.self_attn.k_norm.weight", (self.kv_heads, self.head_size), decay=False),
        )

    def _biases(self, config: Config) -> tuple[bool, bool]:
        bias = bool(config.get("attention_bias", False))
        return bias, bias

    def normalise(self, tape: Tape, x: Tensor, norm: Norm) -> Tensor:
        """CohereLayerNorm."""
        assert not isinstance(norm, LayerNorm)  # noqa: S101  narrowing: the missing norm is not applied
        return layer_norm_of_operators(tape, x, norm)

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """apply_rotary_pos_emb of pairs, in float32."""
        return rotate_widened(tape, q, k, position)

    def _forward(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, position: Rotary | None, mask: Tensor | None
    ) -> Tensor:
        residual = hidden
        hidden = self.normalise(tape, hidden, w.input_norm)
        attended = self._attention(tape, regime, w, hidden, position, mask)
        fed = self.feed_forward(tape, w, hidden)
        return e.add(tape, e.add(tape, residual, attended), fed)

    def finish(self, tape: Tape, held: list[Tensor]) -> Tensor:
        """Logits times a constant."""
        return e.linear_unary(tape, "mul", held.pop())


class Cohere2(Cohere):
    """Cohere2ForCausalLM."""

    defaults: ClassVar[Mapping[str, object]] = {**Cohere.defaults, "sliding_window": 4096}
    builds_both_masks: ClassVar[bool] = True
    caches_in_training_from: ClassVar[tuple[int, ...]] = (5, 0)

    def __init__(self, build: Builder, config: Config) -> None:
        width, heads = number(config, "hidden_size"), number(config, "num_attention_heads", default=64)
        super().__init__(build, {**config, "head_dim": width // heads, "use_qk_norm": False})

    def _kinds(self, config: Config) -> Sequence[Kind]:
        types = attention_types(config, self.count, every(number(config, "sliding_window_pattern", default=4)))
        return tuple([Kind(attention, rotates=attention == SLIDING and self.window is not None) for attention in types])
