"""The head that predicts masked words: a layer of its own below the words' embeddings."""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.memory.architectures.encoder import Encoder
from vramlint.memory.architectures.family import Config, LayerNorm, Outputs
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.softmax import cross_entropy, mark_logits
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class MaskedLM(Encoder):
    """…ForMaskedLM: every position gets logits."""

    def _head(self, build: Builder, config: Config) -> None:
        dense, norm, decoder = self.language_head
        self.transform = build.linear(dense, self.hidden, self.width, bias=True)
        self.transform_norm = LayerNorm.of(build, norm, self.width)
        tied = self.embedding if config.get("tie_word_embeddings", True) else None
        self.decoder = build.linear(decoder, self.width, self.vocabulary, bias=True, head=True, tied_to=tied)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The loss is taken in the dtype of the logits."""
        hidden = self.last_hidden_state(tape, regime, batch)
        logits = self._logits(tape, hidden)
        flat = logits.as_shape((logits.numel // self.vocabulary, self.vocabulary))
        return Outputs(cross_entropy(tape, flat, batch["labels"]), [logits])

    def _logits(self, tape: Tape, x: Tensor) -> Tensor:
        hidden = linear(tape, x, self.transform)
        hidden = activation(tape, self.language_activation or self.activation, hidden)
        hidden = self.transform_norm(tape, hidden)
        logits = linear(tape, hidden, self.decoder)
        mark_logits(tape, logits)
        return logits
