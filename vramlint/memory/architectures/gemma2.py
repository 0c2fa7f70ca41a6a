"""Gemma 2: gemma with norms around both blocks, soft caps and alternating windows (transformers 5.23 models/gemma2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import ClassVar

from vramlint.memory.architectures import llama
from vramlint.memory.architectures.family import Config
from vramlint.memory.architectures.gemma import Gemma
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.rotary import Rotary, rotary, rotate
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder

SDPA_UNTIL = (5, 0)
"""Since then sdpa, which has no soft cap, is refused and the model runs its eager attention."""
DEFAULT_WINDOW = 4096


@dataclass(slots=True)
class Layer(llama.Layer):
    """Weights of one decoder layer."""

    pre_feed_forward_norm: Parameter
    post_feed_forward_norm: Parameter


class Gemma2(Gemma):
    """Gemma2ForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"gemma2": ("q_proj", "v_proj")}

    def __init__(self, build: Builder, config: Config) -> None:
        super().__init__(build, {"sliding_window": DEFAULT_WINDOW, **config})
        self.caps_scores = config.get("attn_logit_softcapping", True) is not None
        self.caps_logits = config.get("final_logit_softcapping", True) is not None

    def _layer(self, build: Builder, config: Config, name: str) -> Layer:
        base = super()._layer(build, config, name)
        return Layer(
            **{item.name: getattr(base, item.name) for item in fields(base)},
            pre_feed_forward_norm=build.norm(f"{name}.pre_feedforward_layernorm.weight", self.hidden),
            post_feed_forward_norm=build.norm(f"{name}.post_feedforward_layernorm.weight", self.hidden),
        )

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """Gemma2Model.forward.

        Both masks are built and taken in turn; every layer between the first and the last counts as windowed.
        """
        if regime.implementation == "sdpa" and regime.transformers >= SDPA_UNTIL:
            regime = replace(regime, implementation="eager")
        full = regime.mask(tape, embedded, None)
        windowed = regime.mask(tape, embedded, self.window)
        position = rotary(tape, embedded, self.head_size)

        def layer(hidden: Tensor, index: int) -> Tensor:
            weights = self.layers[index]
            mask = full if index == len(self.layers) - 1 else windowed
            return regime.layer(tape, lambda x: self._forward(tape, regime, weights, x, position, mask), hidden)

        hidden = tape.repeat(self.count, layer, embedded)
        return self.normalise(tape, hidden, self.norm)

    def _forward(
        self, tape: Tape, regime: Regime, w: llama.Layer, hidden: Tensor, position: Rotary, mask: Tensor | None
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

    def _attention(
        self, tape: Tape, regime: Regime, w: llama.Layer, hidden: Tensor, position: Rotary, mask: Tensor | None
    ) -> Tensor:
        q = self._projected(tape, hidden, w.q, w.q_norm, self.heads)
        k = self._projected(tape, hidden, w.k, w.k_norm, self.kv_heads)
        v = self._projected(tape, hidden, w.v, None, self.kv_heads)
        q, k = rotate(tape, q, position), rotate(tape, k, position)
        return linear(tape, regime.attend(tape, q, k, v, mask, softcap=self.caps_scores), w.o)

    def logits(self, tape: Tape, hidden: Tensor) -> Tensor:
        """Logits under a soft cap."""
        logits = super().logits(tape, hidden)
        return e.softcapped(tape, logits) if self.caps_logits else logits
