"""BERT and RoBERTa: encoders with a language-model or a classification head (transformers 5.23 models/bert)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from vramlint.job import Batch
from vramlint.memory.architectures.family import Config, LayerNorm, Network, Outputs, number, probability
from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.softmax import cross_entropy, mark_logits
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Shape, Tensor
from vramlint.memory.weights import Builder

GATHERED_TYPES_FROM = (5, 0)
"""Since then default token types are gathered from a buffer by position; before they were a view of it."""
OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert"})
"""Models whose positions are counted from the padding mask of every sequence."""


@dataclass(slots=True)
class Layer:
    """Weights of one encoder layer."""

    q: Weights
    k: Weights
    v: Weights
    o: Weights
    attention_norm: LayerNorm
    up: Weights
    down: Weights
    output_norm: LayerNorm


class Bert(Network):
    """BertModel or RobertaModel below a head."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
        ("bert", "roberta", "xlm-roberta"), ("query", "value")
    )
    pools: ClassVar[bool] = False
    """Whether the body ends in BertPooler."""
    embedding: Parameter

    def __init__(self, build: Builder, config: Config) -> None:
        self.offset_positions = config.get("model_type") in OFFSET_POSITIONS
        self.hidden = number(config, "hidden_size")
        self.heads = number(config, "num_attention_heads")
        self.inner = number(config, "intermediate_size")
        self.count = number(config, "num_hidden_layers")
        self.vocabulary = number(config, "vocab_size")
        self.activation = str(config.get("hidden_act", "gelu"))
        self.dropout = probability(config, "hidden_dropout_prob", default=0.1)
        self.attention_dropout = probability(config, "attention_probs_dropout_prob", default=0.1)
        self.classifier_dropout = probability(config, "classifier_dropout", default=self.dropout)
        positions = number(config, "max_position_embeddings", default=512)
        types = number(config, "type_vocab_size", default=2)
        name = "roberta" if self.offset_positions else "bert"
        build.buffer(8 * positions)
        build.buffer(8 * positions)
        table = f"{name}.embeddings"
        self.embedding = build.parameter(f"{table}.word_embeddings.weight", (self.vocabulary, self.hidden))
        self.position_table = build.parameter(f"{table}.position_embeddings.weight", (positions, self.hidden))
        self.type_table = build.parameter(f"{table}.token_type_embeddings.weight", (types, self.hidden))
        self.embedding_norm = LayerNorm.of(build, f"{table}.LayerNorm", self.hidden)
        self.layers = [self._layer(build, f"{name}.encoder.layer.{position}") for position in build.layers(self.count)]
        pooler = f"{name}.pooler.dense"
        self.pooler = build.linear(pooler, self.hidden, self.hidden, bias=True) if self.pools else None
        self._head(build, config)

    def _layer(self, build: Builder, name: str) -> Layer:
        size, attn = self.hidden, f"{name}.attention"
        return Layer(
            q=build.linear(f"{attn}.self.query", size, size, bias=True),
            k=build.linear(f"{attn}.self.key", size, size, bias=True),
            v=build.linear(f"{attn}.self.value", size, size, bias=True),
            o=build.linear(f"{attn}.output.dense", size, size, bias=True),
            attention_norm=LayerNorm.of(build, f"{attn}.output.LayerNorm", size),
            up=build.linear(f"{name}.intermediate.dense", size, self.inner, bias=True),
            down=build.linear(f"{name}.output.dense", self.inner, size, bias=True),
            output_norm=LayerNorm.of(build, f"{name}.output.LayerNorm", size),
        )

    @abstractmethod
    def _head(self, build: Builder, config: Config) -> None:
        """Build what stands above the body."""

    def last_hidden_state(self, tape: Tape, regime: Regime, tokens: Tensor) -> Tensor:
        """BertModel.forward."""
        hidden = self._embed(tape, regime, tokens)
        mask = regime.bidirectional_mask(tape, hidden)

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.layers[index]
            return regime.layer(tape, lambda y: self._forward(tape, regime, weights, y, mask), x)

        return tape.repeat(self.count, layer, hidden)

    def _embed(self, tape: Tape, regime: Regime, tokens: Tensor) -> Tensor:
        batch, length = tokens.shape
        rows = batch if self.offset_positions else 1
        order = tape.empty((rows, length), "int64", "position ids") if self.offset_positions else tokens
        types = tokens
        if regime.transformers >= GATHERED_TYPES_FROM:
            types = tape.empty((rows, length), "int64", "token type ids").as_shape((batch, length))
        words = embedding(tape, tokens, self.embedding)
        if regime.inputs_require_grad and not words.requires_grad:
            tape.capture(words, [])
        typed = embedding(tape, types, self.type_table)
        hidden = e.add(tape, words, typed)
        positioned = embedding(tape, order.as_shape((rows, length)), self.position_table)
        hidden = e.add(tape, hidden, positioned)
        hidden = self.embedding_norm(tape, hidden)
        return e.dropout(tape, hidden, self.dropout)

    def _forward(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor | None) -> Tensor:
        attended = self._attention(tape, regime, w, hidden, mask)
        attended = self._output(tape, attended, hidden, w.o, w.attention_norm)
        fed = activation(tape, self.activation, linear(tape, attended, w.up))
        return self._output(tape, fed, attended, w.down, w.output_norm)

    def _attention(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (attention.split_heads(tape, linear(tape, hidden, part), self.heads) for part in (w.q, w.k, w.v))
        return regime.attend(tape, q, k, v, mask, self.attention_dropout, widens=False)

    def _output(self, tape: Tape, x: Tensor, residual: Tensor, dense: Weights, norm: LayerNorm) -> Tensor:
        hidden = linear(tape, x, dense)
        hidden = e.dropout(tape, hidden, self.dropout)
        return norm(tape, e.add(tape, hidden, residual))


class BertForMaskedLM(Bert):
    """BertForMaskedLM and RobertaForMaskedLM: every position gets logits."""

    def _head(self, build: Builder, config: Config) -> None:
        name = "lm_head" if self.offset_positions else "cls.predictions.transform"
        self.transform = build.linear(f"{name}.dense", self.hidden, self.hidden, bias=True)
        norm = "layer_norm" if self.offset_positions else "LayerNorm"
        self.transform_norm = LayerNorm.of(build, f"{name}.{norm}", self.hidden)
        tied = self.embedding if config.get("tie_word_embeddings", True) else None
        decoder = "lm_head.decoder" if self.offset_positions else "cls.predictions.decoder"
        self.decoder = build.linear(decoder, self.hidden, self.vocabulary, bias=True, head=True, tied_to=tied)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The loss is taken in the dtype of the logits."""
        hidden = self.last_hidden_state(tape, regime, batch["input_ids"])
        logits = self._logits(tape, hidden)
        flat = logits.as_shape((logits.numel // self.vocabulary, self.vocabulary))
        return Outputs(cross_entropy(tape, flat, batch["labels"]), [logits])

    def _logits(self, tape: Tape, x: Tensor) -> Tensor:
        hidden = linear(tape, x, self.transform)
        hidden = activation(tape, self.activation, hidden)
        hidden = self.transform_norm(tape, hidden)
        logits = linear(tape, hidden, self.decoder)
        mark_logits(tape, logits)
        return logits


class BertForSequenceClassification(Bert):
    """BertForSequenceClassification."""

    pools: ClassVar[bool] = True

    def _head(self, build: Builder, config: Config) -> None:
        self.labels_count = label_count(config)
        self.classifier = build.linear("classifier", self.hidden, self.labels_count, bias=True, head=True)

    def labels(self, batch: Batch) -> Shape:
        """One for every sequence."""
        return (batch.micro_batch_size,)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The first token's state through the head."""
        hidden = self.last_hidden_state(tape, regime, batch["input_ids"])
        logits = self._classify(tape, hidden)
        return Outputs(cross_entropy(tape, logits, batch["labels"]), [logits])

    def _classify(self, tape: Tape, hidden: Tensor) -> Tensor:
        first = e.part(tape, hidden, (hidden.shape[0], self.hidden))
        pooled = first if self.pooler is None else linear(tape, first, self.pooler)
        pooled = e.unary_of_result(tape, "tanh", pooled)
        return linear(tape, e.dropout(tape, pooled, self.classifier_dropout), self.classifier)


class RobertaForSequenceClassification(BertForSequenceClassification):
    """RobertaForSequenceClassification: the pooler is a part of the head."""

    pools: ClassVar[bool] = False

    def _head(self, build: Builder, config: Config) -> None:
        self.labels_count = label_count(config)
        self.dense = build.linear("classifier.dense", self.hidden, self.hidden, bias=True, head=True)
        self.classifier = build.linear("classifier.out_proj", self.hidden, self.labels_count, bias=True, head=True)

    def _classify(self, tape: Tape, hidden: Tensor) -> Tensor:
        x = e.part(tape, hidden, (hidden.shape[0], self.hidden))
        x = e.dropout(tape, x, self.classifier_dropout)
        x = linear(tape, x, self.dense)
        x = e.unary_of_result(tape, "tanh", x)
        x = e.dropout(tape, x, self.classifier_dropout)
        return linear(tape, x, self.classifier)


def label_count(config: Config) -> int:
    """Number of classes: `num_labels`, the length of `id2label`, or 2 (configuration_utils.py)."""
    names = config.get("id2label")
    return number(config, "num_labels", default=len(names) if isinstance(names, Mapping) else 2)
