"""Gemma 2: gemma with norms around both blocks, soft caps and alternating windows (transformers 5.23 models/gemma2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec.structs import asdict, replace

from vramlint.memory.architectures import llama
from vramlint.memory.architectures.family import Config
from vramlint.memory.architectures.gemma import Gemma
from vramlint.memory.architectures.layer_kinds import Kind, attention_types
from vramlint.memory.architectures.llama import Norm
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.rotary import Rotary
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

SDPA_UNTIL = (5, 0)
"""Since then sdpa, which has no soft cap, is refused and the model runs its eager attention."""


class Layer(llama.Layer):
    """Weights of one decoder layer."""

    pre_feed_forward_norm: Norm
    post_feed_forward_norm: Norm


class Gemma2(Gemma):
    """Gemma2ForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"gemma2": ("q_proj", "v_proj")}
    defaults: ClassVar[Mapping[str, object]] = {
        **Gemma.defaults,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    }
    activation_key: ClassVar[str] = "hidden_activation"
    caches_in_training_from: ClassVar[tuple[int, ...]] = (5, 0)
    refuses_sdpa: ClassVar[bool] = True
    """Whether its scores are capped, which sdpa cannot do."""
    builds_both_masks: ClassVar[bool] = True

    def __init__(self, build: Builder, config: Config) -> None:
        super().__init__(build, config)
        config = {**self.defaults, **config}
        self.caps_scores = config.get("attn_logit_softcapping") is not None
        self.caps_logits = config.get("final_logit_softcapping") is not None

    def _kinds(self, config: Config) -> Sequence[Kind]:
        types = attention_types(config, self.count, lambda index: index % 2 == 0)
        return tuple([Kind(attention) for attention in types])

    def _layer(self, build: Builder, config: Config, name: str) -> llama.Layer:
        base = super()._layer(build, config, name)
        return Layer(
            **asdict(base),
            pre_feed_forward_norm=self._norm(build, f"{name}.pre_feedforward_layernorm"),
            post_feed_forward_norm=self._norm(build, f"{name}.post_feedforward_layernorm"),
        )

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """Gemma2Model.forward."""
        if self.refuses_sdpa and regime.implementation == "sdpa" and regime.transformers >= SDPA_UNTIL:
            regime = replace(regime, implementation="eager")
        return super().hidden_states(tape, regime, embedded)

    def _forward(
        self, tape: Tape, regime: Regime, w: llama.Layer, hidden: Tensor, position: Rotary | None, mask: Tensor | None
    ) -> Tensor:
        assert isinstance(w, Layer)  # noqa: S101  narrowing: _layer makes no other
        residual = hidden
        hidden = self.normalise(tape, hidden, w.input_norm)
        hidden = self._attention(tape, regime, w, hidden, position, mask)
        hidden = self.normalise(tape, hidden, w.post_norm)
        hidden = e.add(tape, residual, hidden)
        residual = hidden
        hidden = self.normalise(tape, hidden, w.pre_feed_forward_norm)
        hidden = self.feed_forward(tape, w, hidden)
        hidden = self.normalise(tape, hidden, w.post_feed_forward_norm)
        return e.add(tape, residual, hidden)

    def _attend(self, tape: Tape, regime: Regime, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return regime.attend(tape, q, k, v, mask, self.attention_dropout, softcap=self.caps_scores)

    def finish(self, tape: Tape, held: list[Tensor]) -> Tensor:
        """Logits under a soft cap."""
        return e.softcapped(tape, held) if self.caps_logits else held.pop()
