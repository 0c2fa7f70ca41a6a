"""DistilBERT: BERT without token types and pooler (transformers 5.23 models/distilbert)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.job import Batch
from vramlint.memory.architectures.bert import is_written_out
from vramlint.memory.architectures.encoder import Encoder, Layer, embedded
from vramlint.memory.architectures.family import Config, LayerNorm, Outputs, label_count, number, probability
from vramlint.memory.architectures.masked_lm import MaskedLM
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.named_scores import filled_scores, weighted_by
from vramlint.memory.ops.softmax import cross_entropy
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Shape, Tensor
from vramlint.memory.weights import Builder


class DistilBert(Encoder):
    """DistilBertModel below a head."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    language_head = ("vocab_transform", "vocab_layer_norm", "vocab_projector")

    def __init__(self, build: Builder, config: Config) -> None:
        self.hidden = self.width = number(config, "dim", "hidden_size", default=768)
        self.heads = number(config, "n_heads", "num_attention_heads", default=12)
        self.inner = number(config, "hidden_dim", default=4 * self.hidden)
        self.count = number(config, "n_layers", "num_hidden_layers", default=6)
        self.activation = str(config.get("activation", "gelu"))
        self.dropout = probability(config, "dropout", default=0.1)
        self.attention_dropout = probability(config, "attention_dropout", default=0.1)
        self.classifier_dropout = self.dropout
        self.answer_dropout = probability(config, "qa_dropout", default=0.1)
        positions = number(config, "max_position_embeddings", default=512)
        self.vocabulary = number(config, "vocab_size")
        build.buffer(8 * positions)
        table = "distilbert.embeddings"
        self.embedding = build.parameter(f"{table}.word_embeddings.weight", (self.vocabulary, self.hidden))
        self.position_table = build.parameter(f"{table}.position_embeddings.weight", (positions, self.hidden))
        self.embedding_norm = LayerNorm.of(build, f"{table}.LayerNorm", self.hidden)
        self.layers = [
            self._layer(build, f"distilbert.transformer.layer.{position}") for position in build.layers(self.count)
        ]
        self._head(build, config)

    def _layer(self, build: Builder, name: str) -> Layer:
        size, attn = self.hidden, f"{name}.attention"
        return Layer(
            q=build.linear(f"{attn}.q_lin", size, size, bias=True),
            k=build.linear(f"{attn}.k_lin", size, size, bias=True),
            v=build.linear(f"{attn}.v_lin", size, size, bias=True),
            o=build.linear(f"{attn}.out_lin", size, size, bias=True),
            attention_norm=LayerNorm.of(build, f"{name}.sa_layer_norm", size),
            up=build.linear(f"{name}.ffn.lin1", size, self.inner, bias=True),
            down=build.linear(f"{name}.ffn.lin2", self.inner, size, bias=True),
            output_norm=LayerNorm.of(build, f"{name}.output_layer_norm", size),
        )

    def last_hidden_state(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Tensor:
        """DistilBertModel.forward."""
        hidden = self._embed(tape, regime, batch["input_ids"])
        mask = None
        if not is_written_out(regime):
            mask = regime.bidirectional_mask(tape, hidden)

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.layers[index]
            return regime.layer(tape, lambda y: self._forward(tape, regime, weights, y, mask), x)

        return tape.course.repeat(self.count, layer, [hidden])

    def _embed(self, tape: Tape, regime: Regime, tokens: Tensor) -> Tensor:
        words = embedded(tape, regime, embedding(tape, tokens, self.embedding))
        positioned = embedding(tape, tokens.as_shape((1, tokens.shape[1])), self.position_table)
        hidden = e.add(tape, words, positioned)
        hidden = self.embedding_norm(tape, hidden)
        return e.dropout(tape, hidden, self.dropout)

    def _forward(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor | None) -> Tensor:
        attended = self._attention(tape, regime, w, hidden, mask)
        attended = w.attention_norm(tape, e.add(tape, attended, hidden))
        fed = self._feed_forward(tape, w, attended)
        return w.output_norm(tape, e.add(tape, fed, attended))

    def _attention(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (attention.split_heads(tape, linear(tape, hidden, part), self.heads) for part in (w.q, w.k, w.v))
        if not is_written_out(regime):
            return linear(tape, regime.attend(tape, q, k, v, mask, self.attention_dropout, widens=False), w.o)
        scores = filled_scores(tape, q, k)
        context, weights = weighted_by(tape, scores, v, self.attention_dropout)
        out = linear(tape, context, w.o)
        del scores, weights
        return out

    def _feed_forward(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        x = linear(tape, x, w.up)
        x = activation(tape, self.activation, x)
        x = linear(tape, x, w.down)
        return e.dropout(tape, x, self.dropout)


class DistilBertForMaskedLM(MaskedLM, DistilBert):
    """DistilBertForMaskedLM."""


class DistilBertForSequenceClassification(DistilBert):
    """DistilBertForSequenceClassification."""

    def _head(self, build: Builder, config: Config) -> None:
        self.head_dropout = probability(config, "seq_classif_dropout", default=0.2)
        self.pre_classifier = build.linear("pre_classifier", self.hidden, self.hidden, bias=True)
        self.classifier = build.linear("classifier", self.hidden, label_count(config), bias=True, head=True)

    def labels(self, batch: Batch) -> Shape:
        """One for every sequence."""
        return (batch.micro_batch_size,)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The first token's state through two linear layers."""
        hidden = self.last_hidden_state(tape, regime, batch)
        pooled = shaping.part(tape, hidden, (hidden.shape[0], self.hidden))
        pooled = linear(tape, pooled, self.pre_classifier)
        pooled = e.unary_of_result(tape, "relu", pooled)
        pooled = e.dropout(tape, pooled, self.head_dropout)
        logits = linear(tape, pooled, self.classifier)
        return Outputs(cross_entropy(tape, logits, batch["labels"]), [logits])
