"""BERT, RoBERTa, ELECTRA and ERNIE, which differ in their embeddings and names (transformers 5.23 models/bert, …)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from msgspec.structs import replace

from vramlint.job import Batch
from vramlint.memory.architectures.encoder import (
    ROBERTA_LANGUAGE_HEAD,
    Encoder,
    Layer,
    add_and_norm,
    embedded,
    layer_of,
)
from vramlint.memory.architectures.family import Config, LayerNorm, Outputs, label_count, number, probability
from vramlint.memory.architectures.masked_lm import MaskedLM
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.named_scores import masked_scores, weighted_by
from vramlint.memory.ops.softmax import cross_entropy
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import ENCODER_MASKS_FROM, Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Shape, Tensor
from vramlint.memory.weights import Builder

GATHERED_TYPES_FROM = (5, 0)
"""Since then default token types are gathered from a buffer by position; before they were a view of it."""
OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert"})
"""Models whose positions are counted from the padding mask of every sequence."""
PREFIXES: Mapping[str, str] = MappingProxyType(
    {
        **{name: name for name in ("albert", "electra", "ernie", "esm", "mpnet", "nomic_bert")},
        **dict.fromkeys(OFFSET_POSITIONS, "roberta"),
    }
)
"""What a model calls its body, unless `bert`."""
EAGER_UNTIL: Mapping[str, tuple[int, ...]] = MappingProxyType({"electra": (5, 0), "ernie": (5, 0)})
"""Before this version of transformers these models had eager attention only."""
SHARED_EAGER_FROM = (5, 0)
"""Since then eager attention is a function; before it was written out in the module."""
RETURNED_FROM = (4, 54)
"""Since then its probabilities are returned by every layer, asked for or not."""
ABSOLUTE_ALONE_FROM = (5, 0)
"""Since then no other positions than absolute ones are known."""


class Bert(Encoder):
    """BertModel, or one of those that copied from it, below a head."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
        ("bert", "electra", "roberta", "xlm-roberta"), ("query", "value")
    )

    def __init__(self, build: Builder, config: Config) -> None:
        self.model_type = str(config.get("model_type"))
        self.prefix = PREFIXES.get(self.model_type, "bert")
        self.offset_positions = self.model_type in OFFSET_POSITIONS
        self.hidden = number(config, "hidden_size")
        self.width = self.hidden
        self.heads = number(config, "num_attention_heads")
        self.inner = number(config, "intermediate_size")
        self.count = number(config, "num_hidden_layers", default=12)
        self.vocabulary = number(config, "vocab_size")
        self.activation = str(config.get("hidden_act", "gelu"))
        self.dropout = probability(config, "hidden_dropout_prob", default=0.1)
        self.attention_dropout = probability(config, "attention_probs_dropout_prob", default=0.1)
        self.classifier_dropout = probability(config, "classifier_dropout", default=self.dropout)
        if self.offset_positions:
            self.language_head = ROBERTA_LANGUAGE_HEAD
        if config.get("position_embedding_type", "absolute") != "absolute" and build.transformers < ABSOLUTE_ALONE_FROM:
            raise NotFollowedError(f"{config['position_embedding_type']} as position_embedding_type")
        self._sizes(config)
        self._tables(build, config)
        self._stack(build)
        pooler = self._pooler_name()
        self.pooler = build.linear(pooler, self.hidden, self.hidden, bias=True) if self.pools else None
        self._head(build, config)

    def _sizes(self, config: Config) -> None:
        """What differs from BERT before weights are made."""

    def _tables(self, build: Builder, config: Config) -> None:
        positions = number(config, "max_position_embeddings", default=512)
        types = number(config, "type_vocab_size", default=2)
        build.buffer(8 * positions)
        build.buffer(8 * positions)
        table = f"{self.prefix}.embeddings"
        self.embedding = build.parameter(f"{table}.word_embeddings.weight", (self.vocabulary, self.width))
        self.position_table = build.parameter(f"{table}.position_embeddings.weight", (positions, self.width))
        self.type_table = build.parameter(f"{table}.token_type_embeddings.weight", (types, self.width))
        self.embedding_norm = LayerNorm.of(build, f"{table}.LayerNorm", self.width)

    def _stack(self, build: Builder) -> None:
        name = f"{self.prefix}.encoder.layer"
        self.layers = [self._layer(build, f"{name}.{position}") for position in build.layers(self.count)]

    def _pooler_name(self) -> str:
        return f"{self.prefix}.pooler.dense"

    def _layer(self, build: Builder, name: str) -> Layer:
        return layer_of(build, name, self.hidden, self.inner, ("output.LayerNorm", "output.LayerNorm"))

    def _idle(self, build: Builder) -> None:
        name = self._pooler_name()
        weight = build.parameter(f"{name}.weight", (self.hidden, self.hidden), fixed=True)
        self.idle_pooler = Weights(weight, build.parameter(f"{name}.bias", (self.hidden,), decay=False, fixed=True))

    def _pool_idly(self, tape: Tape, hidden: Tensor) -> None:
        first = shaping.part(tape, hidden, (hidden.shape[0], self.hidden))
        e.unary_of_result(tape, "tanh", linear(tape, first, self.idle_pooler))

    def last_hidden_state(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Tensor:
        """BertModel.forward."""
        if regime.transformers < EAGER_UNTIL.get(self.model_type, ()):
            regime = replace(regime, implementation="eager")
        hidden = self._embed(tape, regime, batch["input_ids"])
        mask = self._mask(tape, regime, hidden)
        return self._run(tape, regime, hidden, mask)

    def _mask(self, tape: Tape, regime: Regime, hidden: Tensor) -> Tensor | None:
        if regime.transformers < ENCODER_MASKS_FROM and regime.implementation == "eager":
            return self._own_mask(tape, hidden)
        return regime.bidirectional_mask(tape, hidden)

    def _own_mask(self, tape: Tape, hidden: Tensor) -> Tensor:
        """get_extended_attention_mask: made of any mask, in the dtype of the weights."""
        batch, length = hidden.shape[:2]
        return tape.empty((batch, 1, 1, length), self.embedding.dtype, "attention mask")

    def _run(self, tape: Tape, regime: Regime, hidden: Tensor, mask: Tensor | None) -> Tensor:
        if is_written_out(regime):
            return self._run_returning(tape, regime, hidden, mask)

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.layers[index]
            return regime.layer(tape, lambda y: self._forward(tape, regime, weights, y, mask), x)

        return tape.course.repeat(self.count, layer, [hidden])

    def _run_returning(self, tape: Tape, regime: Regime, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Layers may return their probabilities too, and the loop has a name for what the last of them returned."""
        returned: list[Tensor] = []
        returns = regime.transformers >= RETURNED_FROM

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.layers[index]

            def forward(y: Tensor) -> tuple[Tensor, ...]:
                return self._forward_written_out(tape, weights, y, mask, returns=returns)

            x, *rest = regime.segment(tape, forward, (x,))
            returned[:] = rest
            return x

        hidden = tape.course.repeat(self.count, layer, [hidden])
        returned.clear()
        return hidden

    def _embed(self, tape: Tape, regime: Regime, tokens: Tensor) -> Tensor:
        batch, length = tokens.shape
        rows = batch if self.offset_positions else 1
        order = tape.empty((rows, length), "int64", "position ids") if self.offset_positions else tokens
        types = tokens
        if regime.transformers >= GATHERED_TYPES_FROM:
            types = tape.empty((rows, length), "int64", "token type ids").as_shape((batch, length))
        words = embedded(tape, regime, embedding(tape, tokens, self.embedding))
        typed = embedding(tape, types, self.type_table)
        hidden = e.add(tape, words, typed)
        positioned = embedding(tape, order.as_shape((rows, length)), self.position_table)
        hidden = e.add(tape, hidden, positioned)
        hidden = self._added(tape, hidden, tokens)
        hidden = self.embedding_norm(tape, hidden)
        return e.dropout(tape, hidden, self.dropout)

    def _added(self, tape: Tape, hidden: Tensor, tokens: Tensor) -> Tensor:
        """What is added besides words, types and positions."""
        return hidden

    def _forward(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor | None) -> Tensor:
        attended = self._attention(tape, regime, w, hidden, mask)
        attended = add_and_norm(tape, attended, hidden, w.o, w.attention_norm, self.dropout)
        return self._fed(tape, w, attended)

    def _forward_written_out(
        self, tape: Tape, w: Layer, hidden: Tensor, mask: Tensor | None, *, returns: bool
    ) -> tuple[Tensor, ...]:
        attended, *probabilities = self._written_out(tape, w, hidden, mask)
        if not returns:
            probabilities.clear()
        attended = add_and_norm(tape, attended, hidden, w.o, w.attention_norm, self.dropout)
        return (self._fed(tape, w, attended), *probabilities)

    def _fed(self, tape: Tape, w: Layer, attended: Tensor) -> Tensor:
        fed = activation(tape, self.activation, linear(tape, attended, w.up))
        return add_and_norm(tape, fed, attended, w.down, w.output_norm, self.dropout)

    def _attention(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (attention.split_heads(tape, linear(tape, hidden, part), self.heads) for part in (w.q, w.k, w.v))
        return regime.attend(tape, q, k, v, mask, self.attention_dropout, widens=False)

    def _written_out(self, tape: Tape, w: Layer, hidden: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        q, k, v = (attention.split_heads(tape, linear(tape, hidden, part), self.heads) for part in (w.q, w.k, w.v))
        return weighted_by(tape, masked_scores(tape, q, k, mask), v, self.attention_dropout)


class BertForMaskedLM(MaskedLM, Bert):
    """BertForMaskedLM and RobertaForMaskedLM."""


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
        hidden = self.last_hidden_state(tape, regime, batch)
        logits = self._classify(tape, hidden)
        return Outputs(cross_entropy(tape, logits, batch["labels"]), [logits])

    def _classify(self, tape: Tape, hidden: Tensor) -> Tensor:
        first = shaping.part(tape, hidden, (hidden.shape[0], self.hidden))
        pooled = first if self.pooler is None else linear(tape, first, self.pooler)
        pooled = e.unary_of_result(tape, "tanh", pooled)
        return linear(tape, e.dropout(tape, pooled, self.classifier_dropout), self.classifier)


class RobertaForSequenceClassification(BertForSequenceClassification):
    """RobertaForSequenceClassification: the pooler is a part of the head."""

    pools: ClassVar[bool] = False
    pooler_activation: ClassVar[str] = "tanh"

    def _head(self, build: Builder, config: Config) -> None:
        self.labels_count = label_count(config)
        self.dense = build.linear("classifier.dense", self.hidden, self.hidden, bias=True, head=True)
        self.classifier = build.linear("classifier.out_proj", self.hidden, self.labels_count, bias=True, head=True)

    def _classify(self, tape: Tape, hidden: Tensor) -> Tensor:
        x = shaping.part(tape, hidden, (hidden.shape[0], self.hidden))
        x = e.dropout(tape, x, self.classifier_dropout)
        x = linear(tape, x, self.dense)
        x = activation(tape, self.pooler_activation, x)
        x = e.dropout(tape, x, self.classifier_dropout)
        return linear(tape, x, self.classifier)


def is_written_out(regime: Regime) -> bool:
    """Whether eager attention is code of the model's own."""
    return regime.implementation == "eager" and regime.transformers < SHARED_EAGER_FROM
