"""ELECTRA: BERT with embeddings that may be narrower than its states (transformers 5.23 models/electra)."""

from __future__ import annotations

from typing import ClassVar

from vramlint.memory.architectures.bert import Bert, RobertaForSequenceClassification
from vramlint.memory.architectures.family import Config, number
from vramlint.memory.architectures.masked_lm import MaskedLM
from vramlint.memory.ops.linear import linear
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class Electra(Bert):
    """ElectraModel below a head."""

    language_head = ("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head")
    language_activation = "gelu"

    def _sizes(self, config: Config) -> None:
        self.width = number(config, "embedding_size", default=128)

    def _tables(self, build: Builder, config: Config) -> None:
        super()._tables(build, config)
        wide = self.width == self.hidden
        name = f"{self.prefix}.embeddings_project"
        self.projection = None if wide else build.linear(name, self.width, self.hidden, bias=True)

    def _idle(self, build: Builder) -> None:
        """It has no pooler."""

    def _pool_idly(self, tape: Tape, hidden: Tensor) -> None:
        """It has no pooler."""

    def _embed(self, tape: Tape, regime: Regime, tokens: Tensor) -> Tensor:
        hidden = super()._embed(tape, regime, tokens)
        return hidden if self.projection is None else linear(tape, hidden, self.projection)


class ElectraForMaskedLM(MaskedLM, Electra):
    """ElectraForMaskedLM, the generator."""


class ElectraForSequenceClassification(RobertaForSequenceClassification, Electra):
    """ElectraForSequenceClassification."""

    pooler_activation: ClassVar[str] = "gelu"
