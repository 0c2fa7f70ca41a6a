"""Heads of ModernBERT, all above a layer of their own (transformers 5.23 models/modernbert/modeling_modernbert.py)."""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.job import Batch
from vramlint.memory.architectures.family import Config, Outputs, label_count
from vramlint.memory.architectures.modernbert import ModernBert
from vramlint.memory.architectures.span_head import PLACES, span_inputs, span_outputs
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.pooling import masked_mean
from vramlint.memory.ops.softmax import cross_entropy, mark_logits
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Shape, Tensor
from vramlint.memory.weights import Builder


class _Predicting(ModernBert):
    """A model with ModernBertPredictionHead."""

    def _predictor(self, build: Builder, config: Config) -> None:
        bias = bool(config.get("classifier_bias", False))
        self.dense = build.linear("head.dense", self.hidden, self.hidden, bias=bias)
        self.predictor_activation = str(config.get("classifier_activation", "gelu"))
        self.predictor_norm = self._norm(build, "head.norm")

    def _predict(self, tape: Tape, x: Tensor) -> Tensor:
        return self.predictor_norm(tape, activation(tape, self.predictor_activation, linear(tape, x, self.dense)))

    def _classify(self, build: Builder, config: Config, classes: int) -> None:
        self._predictor(build, config)
        self.classes = classes
        self.classifier = build.linear("classifier", self.hidden, classes, bias=True, head=True)


class ModernBertForMaskedLM(_Predicting):
    """ModernBertForMaskedLM: the loss is taken in float32."""

    def _head(self, build: Builder, config: Config) -> None:
        if config.get("sparse_prediction", False):
            raise NotFollowedError("a prediction of masked tokens only, which the data decides,")
        self._predictor(build, config)
        tied = self.embedding if config.get("tie_word_embeddings", True) else None
        bias = bool(config.get("decoder_bias", True))
        self.decoder = build.linear("decoder", self.hidden, self.vocabulary, bias=bias, head=True, tied_to=tied)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """Every position gets logits."""
        hidden = self.last_hidden_state(tape, regime, batch)
        logits = linear(tape, self._predict(tape, hidden), self.decoder)
        mark_logits(tape, logits)
        return Outputs(self._loss(tape, logits, batch["labels"]), [logits])

    def _loss(self, tape: Tape, logits: Tensor, labels: Tensor) -> Tensor:
        wide = tape.to(logits, "float32")
        mark_logits(tape, wide)
        flat = wide.as_shape((wide.numel // self.vocabulary, self.vocabulary))
        return cross_entropy(tape, flat, labels)


class ModernBertForSequenceClassification(_Predicting):
    """ModernBertForSequenceClassification: of the first token's state or the mean of all."""

    def _head(self, build: Builder, config: Config) -> None:
        self.averages = config.get("classifier_pooling", "cls") == "mean"
        self._classify(build, config, label_count(config))

    def labels(self, batch: Batch) -> Shape:
        """One for every sequence."""
        return (batch.micro_batch_size,)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """One state for every sequence is classified."""
        hidden = self.last_hidden_state(tape, regime, batch)
        pooled = self._pool(tape, hidden, batch)
        pooled = e.dropout(tape, self._predict(tape, pooled), self.classifier_dropout)
        logits = linear(tape, pooled, self.classifier)
        return Outputs(cross_entropy(tape, logits, batch["labels"]), [logits])

    def _pool(self, tape: Tape, hidden: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        if not self.averages:
            return shaping.part(tape, hidden, (hidden.shape[0], self.hidden))
        mask = batch.get("attention_mask")
        if mask is None:
            mask = tape.empty(hidden.shape[:2], "bool", "attention mask")
        return masked_mean(tape, hidden, mask)


class ModernBertForTokenClassification(_Predicting):
    """ModernBertForTokenClassification."""

    def _head(self, build: Builder, config: Config) -> None:
        self._classify(build, config, label_count(config))

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """Every state is classified."""
        hidden = self.last_hidden_state(tape, regime, batch)
        dropped = e.dropout(tape, self._predict(tape, hidden), self.classifier_dropout)
        logits = linear(tape, dropped, self.classifier)
        flat = logits.as_shape((logits.numel // self.classes, self.classes))
        return Outputs(cross_entropy(tape, flat, batch["labels"]), [logits])


class ModernBertForQuestionAnswering(_Predicting):
    """ModernBertForQuestionAnswering."""

    def _head(self, build: Builder, config: Config) -> None:
        self._classify(build, config, PLACES)

    def inputs(self, batch: Batch) -> Mapping[str, tuple[Shape, str]]:
        """Tokens, mask, and the places where the answers start and end."""
        return span_inputs(super().inputs(batch), batch)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """Every state gets two logits."""
        hidden = self.last_hidden_state(tape, regime, batch)
        dropped = e.dropout(tape, self._predict(tape, hidden), self.classifier_dropout)
        return span_outputs(tape, linear(tape, dropped, self.classifier))
