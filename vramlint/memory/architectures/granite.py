"""Granite: llama with multipliers on embeddings, residual branches and logits (transformers 5.23 models/granite)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.llama import Layer, Llama
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.rotary import Rotary
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor


class Granite(Llama):
    """GraniteForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    own_loss_until: tuple[int, ...] = (4, 48)

    def entered(self, tape: Tape, embedded: Tensor) -> Tensor:
        """Token embeddings times a constant."""
        return e.linear_unary(tape, "mul", embedded)

    def _forward(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, position: Rotary | None, mask: Tensor | None
    ) -> Tensor:
        residual = hidden
        hidden = self.normalise(tape, hidden, w.input_norm)
        hidden = self._attention(tape, regime, w, hidden, position, mask)
        hidden = e.add(tape, residual, e.linear_unary(tape, "mul", hidden))
        residual = hidden
        hidden = self.normalise(tape, hidden, w.post_norm)
        hidden = self.feed_forward(tape, w, hidden)
        return e.add(tape, residual, e.linear_unary(tape, "mul", hidden))

    def finish(self, tape: Tape, held: list[Tensor]) -> Tensor:
        """Logits divided by a constant."""
        return e.linear_unary(tape, "div", held.pop())
