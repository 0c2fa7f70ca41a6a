"""Heads of DeBERTa (transformers 5.23 models/deberta_v2/modeling_deberta_v2.py)."""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.job import Batch
from vramlint.memory.architectures.deberta import Deberta
from vramlint.memory.architectures.deberta_v2 import DebertaV2
from vramlint.memory.architectures.encoder import Drop, Encoder
from vramlint.memory.architectures.family import Config, LayerNorm, Outputs, label_count, number, probability
from vramlint.memory.architectures.masked_lm import MaskedLM
from vramlint.memory.ops import shaping
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.indexing import gather
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.softmax import cross_entropy, mean_squared_error
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Shape, Tensor
from vramlint.memory.weights import Builder


class ContextClassifier(Encoder):
    """…ForSequenceClassification: a pooler of its own below the classifier."""

    drop: Drop

    def _head(self, build: Builder, config: Config) -> None:
        self.classes = label_count(config)
        self.problem = config.get("problem_type")
        width = number(config, "pooler_hidden_size", default=self.hidden)
        self.pooler = build.linear("pooler.dense", width, width, bias=True)
        self.pooler_activation = str(config.get("pooler_hidden_act", "gelu"))
        self.pooler_dropout = probability(config, "pooler_dropout", default=0.0)
        self.classifier_dropout = probability(config, "cls_dropout", default=self.classifier_dropout)
        self.classifier = build.linear("classifier", self.hidden, self.classes, bias=True, head=True)

    def labels(self, batch: Batch) -> Shape:
        """One for every sequence."""
        several = self.problem == "multi_label_classification"
        return (batch.micro_batch_size, self.classes) if several else (batch.micro_batch_size,)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The first token's state through the pooler."""
        hidden = self.last_hidden_state(tape, regime, batch)
        first = shaping.part(tape, hidden, (hidden.shape[0], self.hidden))
        pooled = linear(tape, self.drop(tape, first, self.pooler_dropout), self.pooler)
        pooled = activation(tape, self.pooler_activation, pooled)
        pooled = self.drop(tape, pooled, self.classifier_dropout)
        logits = linear(tape, pooled, self.classifier)
        return Outputs(self._loss(tape, logits, batch["labels"]), [logits])

    def _loss(self, tape: Tape, logits: Tensor, labels: Tensor) -> Tensor:
        if self.classes == 1 or self.problem in ("regression", "multi_label_classification"):
            return mean_squared_error(tape, logits, labels)
        if self.problem is not None:
            return cross_entropy(tape, logits, labels)
        # labels below zero are left out: those that count are looked up
        labelled = tape.empty((labels.numel, 1), "int64", "nonzero")
        chosen = gather(tape, logits, labelled, logits.shape)
        kept = tape.empty(labels.shape, "int64", "gather")
        return cross_entropy(tape, tape.to(chosen, "float32"), kept)


class DebertaV2ForSequenceClassification(ContextClassifier, DebertaV2):
    """DebertaV2ForSequenceClassification."""


class DebertaForSequenceClassification(ContextClassifier, Deberta):
    """DebertaForSequenceClassification."""


class WordPredictor(MaskedLM):
    """…ForMaskedLM, with the legacy head or the one that uses the embeddings as they are."""

    def _head(self, build: Builder, config: Config) -> None:
        if config.get("legacy", True):
            super()._head(build, config)
            return
        name = "lm_predictions.lm_head"
        self.transform = build.linear(f"{name}.dense", self.hidden, self.hidden, bias=True)
        self.transform_norm = LayerNorm.of(build, f"{name}.LayerNorm", self.hidden)
        bias = build.parameter(f"{name}.bias", (self.vocabulary,), decay=False)
        self.decoder = Weights(self.embedding, bias, plain=True)


class DebertaV2ForMaskedLM(WordPredictor, DebertaV2):
    """DebertaV2ForMaskedLM."""


class DebertaForMaskedLM(WordPredictor, Deberta):
    """DebertaForMaskedLM."""
