"""OLMo 2 and 3: norms behind the blocks and on full-width queries and keys; OLMo 3 has windows.

transformers 5.23 models/{olmo2,olmo3}/modeling_*.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec.structs import replace

from vramlint.memory.architectures.family import Config, LayerNorm
from vramlint.memory.architectures.layer_kinds import FULL, SLIDING, Kind, attention_types, every, tabled
from vramlint.memory.architectures.llama import Layer, Llama, Norm
from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.norm import rms_norm_scaled_wide
from vramlint.memory.ops.rotary import Rotary, rotary, rotate_back_to
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class NormsBehind(Llama):
    """A llama whose norms stand behind attention and MLP instead of before them."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    norm_names: ClassVar[tuple[str, str]] = ("post_attention_layernorm", "post_feedforward_layernorm")

    def _forward(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, position: Rotary | None, mask: Tensor | None
    ) -> Tensor:
        residual = hidden
        hidden = self._attention(tape, regime, w, hidden, position, mask)
        hidden = self.normalise(tape, hidden, w.input_norm)
        hidden = e.add(tape, residual, hidden)
        residual = hidden
        hidden = self.feed_forward(tape, w, hidden)
        hidden = self.normalise(tape, hidden, w.post_norm)
        return e.add(tape, residual, hidden)


class Olmo2(NormsBehind):
    """Olmo2ForCausalLM."""

    defaults: ClassVar[Mapping[str, object]] = {"num_attention_heads": 32, "vocab_size": 50304}

    def _layer(self, build: Builder, config: Config, name: str) -> Layer:
        layer = super()._layer(build, config, name)
        return replace(
            layer,
            q_norm=build.norm(f"{name}.self_attn.q_norm.weight", self.heads * self.head_size),
            k_norm=build.norm(f"{name}.self_attn.k_norm.weight", self.kv_heads * self.head_size),
        )

    def positions(self, tape: Tape, embedded: Tensor) -> Mapping[str, Rotary]:
        """Rotary tables that stay in float32."""
        return dict.fromkeys((FULL, SLIDING), rotary(tape, embedded, self.head_size, "float32"))

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """apply_rotary_pos_emb with float32 tables."""
        return rotate_back_to(tape, q, k, position)

    def normalise(self, tape: Tape, x: Tensor, norm: Norm) -> Tensor:
        """Olmo2RMSNorm."""
        assert not isinstance(norm, LayerNorm)  # noqa: S101  narrowing: there are no other norms
        return rms_norm_scaled_wide(tape, x, norm, widens=False)

    def _projected(self, tape: Tape, hidden: Tensor, w: Weights, norm: Norm | None, heads: int) -> Tensor:
        out = linear(tape, hidden, w)
        return attention.split_heads(tape, out if norm is None else self.normalise(tape, out, norm), heads)


class Olmo3(Olmo2):
    """Olmo3ForCausalLM."""

    defaults: ClassVar[Mapping[str, object]] = {**Olmo2.defaults, "sliding_window": 4096}
    builds_both_masks: ClassVar[bool] = True

    def _kinds(self, config: Config) -> Sequence[Kind]:
        types = attention_types(config, self.count, every(4))
        return tuple([Kind(attention) for attention in types])

    def _rotary_buffers(self, build: Builder, config: Config) -> None:
        for _ in tabled(self.attentions, self.transformers):
            super()._rotary_buffers(build, config)

    def positions(self, tape: Tape, embedded: Tensor) -> Mapping[str, Rotary]:
        """Rotary tables of each kind of layer, in float32."""
        return {
            kind: rotary(tape, embedded, self.head_size, "float32")
            for kind in tabled(self.attentions, self.transformers)
        }
