"""Nomic BERT: BERT that rotates, gates its MLP and has no biases (transformers 5.23 models/nomic_bert)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from msgspec import Struct

from vramlint.memory.architectures.bert import Bert, BertForSequenceClassification
from vramlint.memory.architectures.encoder import embedded
from vramlint.memory.architectures.family import Config, LayerNorm, number, probability
from vramlint.memory.architectures.feed_forward import GatedMlp
from vramlint.memory.architectures.masked_lm import MaskedLM
from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.rotary import Rotary, rotary, rotate
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

KNOWN_FROM = (5, 5)
"""Since then transformers has the model; before it was code of the checkpoint's own."""

DEFAULTS: Config = MappingProxyType(
    {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "vocab_size": 30528}
)
"""Of NomicBertConfig: published configs have names of their own for these."""


class GatedLayer(Struct):
    """Weights of one layer."""

    attention_norm: LayerNorm
    mlp: GatedMlp
    q: Weights
    k: Weights
    v: Weights
    o: Weights
    output_norm: LayerNorm


class NomicBert(Bert):
    """NomicBertModel below a head."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    language_head = (
        "cls.predictions.transform.dense",
        "cls.predictions.transform.layer_norm",
        "cls.predictions.decoder",
    )

    def __init__(self, build: Builder, config: Config) -> None:
        super().__init__(build, {**DEFAULTS, **config})

    def _sizes(self, config: Config) -> None:
        self.activation = str(config.get("hidden_act", "silu"))
        self.dropout = probability(config, "hidden_dropout_prob", default=0.0)
        self.attention_dropout = probability(config, "attention_probs_dropout_prob", default=0.0)
        self.classifier_dropout = probability(config, "classifier_dropout", default=self.dropout)
        self.head_size = number(config, "head_dim", default=self.hidden // self.heads)

    def _tables(self, build: Builder, config: Config) -> None:
        if build.transformers < KNOWN_FROM:
            raise NotFollowedError("Nomic BERT before transformers 5.5")
        positions = number(config, "max_position_embeddings", default=2048)
        types = number(config, "type_vocab_size", default=2)
        build.buffer(8 * positions)
        build.buffer(8 * positions)
        build.buffer(4 * (self.head_size // 2))
        build.buffer(4 * (self.head_size // 2))
        table = f"{self.prefix}.embeddings"
        self.embedding = build.parameter(f"{table}.word_embeddings.weight", (self.vocabulary, self.hidden))
        self.type_table = build.parameter(f"{table}.token_type_embeddings.weight", (types, self.hidden))
        self.embedding_norm = LayerNorm.of(build, f"{table}.LayerNorm", self.hidden)

    def _stack(self, build: Builder) -> None:
        name = f"{self.prefix}.layers"
        self.gated = [self._gated(build, f"{name}.{position}") for position in build.layers(self.count)]

    def _gated(self, build: Builder, name: str) -> GatedLayer:
        size, width, attn = self.hidden, self.heads * self.head_size, f"{name}.self_attn"
        return GatedLayer(
            attention_norm=LayerNorm.of(build, f"{name}.post_attention_layernorm", size),
            mlp=GatedMlp.of(build, f"{name}.mlp", size, self.inner, self.activation, bias=False),
            q=build.linear(f"{attn}.q_proj", size, width),
            k=build.linear(f"{attn}.k_proj", size, width),
            v=build.linear(f"{attn}.v_proj", size, width),
            o=build.linear(f"{attn}.o_proj", width, size),
            output_norm=LayerNorm.of(build, f"{name}.post_mlp_layernorm", size),
        )

    def _idle(self, build: Builder) -> None:
        """Without a head it has no pooler."""

    def _pool_idly(self, tape: Tape, hidden: Tensor) -> None:
        """Without a head it has no pooler."""

    def _embed(self, tape: Tape, regime: Regime, tokens: Tensor) -> Tensor:
        words = embedded(tape, regime, embedding(tape, tokens, self.embedding))
        types = tape.empty(tokens.shape, "int64", "token type ids")
        hidden = e.add(tape, words, embedding(tape, types, self.type_table))
        hidden = self.embedding_norm(tape, hidden)
        return e.dropout(tape, hidden, self.dropout)

    def _run(self, tape: Tape, regime: Regime, hidden: Tensor, mask: Tensor | None) -> Tensor:
        position = rotary(tape, hidden, self.head_size)

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.gated[index]
            return regime.layer(tape, lambda y: self._step(tape, regime, weights, y, mask, position), x)

        return tape.course.repeat(self.count, layer, [hidden])

    def _step(
        self, tape: Tape, regime: Regime, w: GatedLayer, hidden: Tensor, mask: Tensor | None, position: Rotary
    ) -> Tensor:
        attended = self._attended(tape, regime, w, hidden, mask, position)
        hidden = e.add(tape, hidden, e.dropout(tape, attended, self.dropout))
        hidden = w.attention_norm(tape, hidden)
        fed = w.mlp(tape, hidden)
        fed = e.add(tape, hidden, e.dropout(tape, fed, self.dropout))
        return w.output_norm(tape, fed)

    def _attended(
        self, tape: Tape, regime: Regime, w: GatedLayer, hidden: Tensor, mask: Tensor | None, position: Rotary
    ) -> Tensor:
        q, k, v = (attention.split_heads(tape, linear(tape, hidden, part), self.heads) for part in (w.q, w.k, w.v))
        q, k = rotate(tape, q, position), rotate(tape, k, position)
        return linear(tape, regime.attend(tape, q, k, v, mask, self.attention_dropout, widens=False), w.o)


class NomicBertForMaskedLM(MaskedLM, NomicBert):
    """NomicBertForMaskedLM."""


class NomicBertForSequenceClassification(BertForSequenceClassification, NomicBert):
    """NomicBertForSequenceClassification."""
