"""What DeBERTas share: embeddings, masks, distances, and the order of a layer (transformers 5.23 models/deberta_v2).

They have attention of their own, whatever implementation a run asks for.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic, TypeVar

from msgspec import Struct

from vramlint.memory.architectures.encoder import Drop, Encoder, add_and_norm, embedded
from vramlint.memory.architectures.family import Config, LayerNorm, number, probability
from vramlint.memory.ops import disentangled
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.indexing import masked_fill
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.ops.stable import masked_softmax, stable_dropout
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder


class DisentangledLayer(Struct):
    """Weights of one layer."""

    o: Weights
    attention_norm: LayerNorm
    up: Weights
    down: Weights
    output_norm: LayerNorm


KEYWORDS_FROM = (4, 53)
"""Since then a checkpoint gets the table of distances by keyword, so that it is not differentiated layer by layer."""
REWRITTEN_IN = (4, 47)
"""Before it, softmax and dropout were functions of the models' own."""
L = TypeVar("L", bound=DisentangledLayer)


class Distances(Struct):
    """What all layers know of relative positions: the distances [1, 1, S, S] and a table of their embeddings."""

    relative: Tensor
    table: Tensor


class DebertaBody(Encoder, Generic[L]):
    """DebertaModel or DebertaV2Model below a head."""

    norm: ClassVar[type[LayerNorm]] = LayerNorm

    def __init__(self, build: Builder, config: Config) -> None:
        self.rewritten = build.transformers >= REWRITTEN_IN
        self.drop: Drop = e.dropout if self.rewritten else stable_dropout
        self.hidden = number(config, "hidden_size", default=1536)
        self.heads = number(config, "num_attention_heads", default=24)
        self.inner = number(config, "intermediate_size", default=6144)
        self.count = number(config, "num_hidden_layers", default=24)
        self.vocabulary = number(config, "vocab_size", default=128100)
        self.width = number(config, "embedding_size", default=self.hidden)
        self.head_size = number(config, "attention_head_size", default=self.hidden // self.heads)
        self.activation = str(config.get("hidden_act", "gelu"))
        self.dropout = probability(config, "hidden_dropout_prob", default=0.1)
        self.attention_dropout = probability(config, "attention_probs_dropout_prob", default=0.1)
        self.classifier_dropout = self.dropout
        self.biased_input = bool(config.get("position_biased_input", True))
        self.relative = bool(config.get("relative_attention", False))
        self.shares_keys = bool(config.get("share_att_key", False))
        self.kinds = position_kinds(config) if self.relative else ()
        self._embeddings(build, config)
        self.layer_kinds = self._kinds_of_layers(config)
        name = "deberta.encoder.layer"
        self.layers = [self._layer(build, f"{name}.{position}") for position in build.layers(self.layer_kinds)]
        self._distances(build, config)
        self._head(build, config)

    def _kinds_of_layers(self, config: Config) -> Sequence[bool]:
        """Whether something stands behind each layer."""
        return [False] * self.count

    def _embeddings(self, build: Builder, config: Config) -> None:
        positions = number(config, "max_position_embeddings", default=512)
        types = number(config, "type_vocab_size", default=0)
        table = "deberta.embeddings"
        build.buffer(8 * positions)
        self.embedding = build.parameter(f"{table}.word_embeddings.weight", (self.vocabulary, self.width))
        self.position_table = self._table(build, f"{table}.position_embeddings", positions if self.biased_input else 0)
        self.type_table = self._table(build, f"{table}.token_type_embeddings", types)
        narrow = self.width != self.hidden
        self.projection = build.linear(f"{table}.embed_proj", self.width, self.hidden) if narrow else None
        self.embedding_norm = self.norm.of(build, f"{table}.LayerNorm", self.hidden)

    def _table(self, build: Builder, name: str, rows: int) -> Parameter | None:
        return build.parameter(f"{name}.weight", (rows, self.width)) if rows else None

    @abstractmethod
    def _layer(self, build: Builder, name: str) -> L:
        """The weights of a layer."""

    @abstractmethod
    def _attention(self, tape: Tape, w: L, hidden: Tensor, pairs: Tensor, distances: Distances | None) -> Tensor:
        """DisentangledSelfAttention.forward; what has a name there lives until the end."""

    def _distances(self, build: Builder, config: Config) -> None:
        """The table of relative positions."""
        farthest = number(config, "max_relative_positions", default=-1)
        if farthest < 1:
            farthest = number(config, "max_position_embeddings", default=512)
        buckets = number(config, "position_buckets", default=-1)
        self.buckets = buckets > 0
        self.farthest = buckets if self.buckets else farthest
        shape, name = (2 * self.farthest, self.hidden), "deberta.encoder.rel_embeddings.weight"
        self.distance_table = build.parameter(name, shape) if self.relative else None

    # ------------------------------------------------------------------ forward

    def last_hidden_state(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Tensor:
        """DebertaV2Model.forward; it collects the states of all layers, asked for or not."""
        tokens = batch["input_ids"]
        mask = batch.get("attention_mask")
        if mask is None:
            mask = tape.empty(tokens.shape, "float32", "attention mask")
        types = tape.empty(tokens.shape, "int64", "token type ids")
        start = self._embed(tape, regime, tokens, types, mask)
        pairs = tape.empty((tokens.shape[0], 1, tokens.shape[1], tokens.shape[1]), mask.dtype, "attention mask")
        distances = self._all_distances(tape, tokens.shape[1])
        states = [tape.lifetimes.of(start)]

        def layer(x: Tensor, index: int) -> Tensor:
            x = self._checkpointed(tape, regime, self.layers[index], (x, pairs), distances)
            if index == 0:
                x = self._behind_first(tape, start, x, mask)
            states.append(tape.lifetimes.of(x))
            return x

        hidden = tape.course.repeat(self.layer_kinds, layer, [start])
        tape.lifetimes.drop(states)
        del types
        return hidden

    def _checkpointed(
        self, tape: Tape, regime: Regime, w: L, inputs: tuple[Tensor, Tensor], distances: Distances | None
    ) -> Tensor:
        if distances is None or regime.transformers >= KEYWORDS_FROM:
            return regime.layer(tape, lambda *y: self._forward(tape, w, y, distances), *inputs)

        def forward(x: Tensor, pairs: Tensor, relative: Tensor, table: Tensor) -> Tensor:
            return self._forward(tape, w, (x, pairs), Distances(relative, table))

        return regime.layer(tape, forward, *inputs, distances.relative, distances.table)

    def _embed(self, tape: Tape, regime: Regime, tokens: Tensor, types: Tensor, mask: Tensor) -> Tensor:
        words = embedded(tape, regime, embedding(tape, tokens, self.embedding))
        hidden = words
        if self.position_table is None:
            positioned = e.like(tape, words.as_shape(words.shape), "zeros_like")
        else:
            positioned = embedding(tape, tokens.as_shape((1, tokens.shape[1])), self.position_table)
            hidden = e.add(tape, hidden, positioned)
        if self.type_table is not None:
            hidden = e.add(tape, hidden, embedding(tape, types, self.type_table))
        if self.projection is not None:
            hidden = linear(tape, hidden, self.projection)
        hidden = self.embedding_norm(tape, hidden)
        hidden = masked(tape, hidden, mask)
        hidden = self.drop(tape, hidden, self.dropout)
        del positioned
        return hidden

    def _all_distances(self, tape: Tape, length: int) -> Distances | None:
        """get_rel_pos and get_rel_embedding."""
        if self.distance_table is None:
            return None
        relative = disentangled.relative_positions(tape, length, buckets=self.buckets)
        table = self._normed_table(tape, self.distance_table)
        return Distances(relative.as_shape((1, 1, length, length)), table)

    def _normed_table(self, tape: Tape, table: Tensor) -> Tensor:
        return table

    def _behind_first(self, tape: Tape, start: Tensor, hidden: Tensor, mask: Tensor) -> Tensor:
        """What stands between the first layer and the second; `start` are the embeddings."""
        return hidden

    def _forward(self, tape: Tape, w: L, inputs: tuple[Tensor, Tensor], distances: Distances | None) -> Tensor:
        """The states and which pairs of tokens count are positional arguments, the distances are none."""
        hidden, pairs = inputs
        attended = self._attention(tape, w, hidden, pairs, distances)
        attended = add_and_norm(tape, attended, hidden, w.o, w.attention_norm, self.dropout, self.drop)
        fed = activation(tape, self.activation, linear(tape, attended, w.up))
        return add_and_norm(tape, fed, attended, w.down, w.output_norm, self.dropout, self.drop)

    def _masked(self, tape: Tape, scores: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """The scores where pairs of tokens count, and the mask of a name of its own."""
        if not self.rewritten:
            return scores, pairs
        shown = tape.empty(pairs.shape, "bool", "attention mask")
        hidden = tape.empty(pairs.shape, "bool", "attention mask")
        return masked_fill(tape, scores, hidden), shown

    def _probabilities(self, tape: Tape, scores: Tensor, pairs: Tensor) -> Tensor:
        weights = softmax(tape, scores, in_float32=False) if self.rewritten else masked_softmax(tape, scores, pairs)
        return self.drop(tape, weights, self.attention_dropout)


def masked(tape: Tape, x: Tensor, mask: Tensor) -> Tensor:
    """`x * mask.unsqueeze(2).to(x.dtype)`: a copy of the mask is kept."""
    weights = mask if mask.dtype == x.dtype else tape.empty(mask.shape, x.dtype, "mask")
    return e.mul(tape, x, weights.as_shape((*mask.shape, 1)))


def position_kinds(config: Config) -> Sequence[str]:
    """`pos_att_type`, a list or a string with bars between its items."""
    kinds = config.get("pos_att_type")
    if isinstance(kinds, str):
        return [kind.strip() for kind in kinds.lower().split("|")]
    return [str(kind) for kind in kinds] if isinstance(kinds, Sequence) else []
