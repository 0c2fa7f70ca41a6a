"""DeBERTa v2 and v3: attention over contents and relative positions apart (transformers 5.23 models/deberta_v2).

It has one attention of its own, whatever implementation a run asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from vramlint.memory.architectures.encoder import Encoder, Layer, add_and_norm, embedded
from vramlint.memory.architectures.family import Config, LayerNorm, number, probability
from vramlint.memory.ops import attention, disentangled
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.convolution import Convolution
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.indexing import masked_fill, masked_fill_in_place
from vramlint.memory.ops.linear import Weights, bmm, linear
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Kept, Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder, NotFollowedError


@dataclass(slots=True)
class DisentangledLayer(Layer):
    """Weights of one layer; those for positions may be the contents' own."""

    position_k: Weights
    position_q: Weights


@dataclass(slots=True)
class Distances:
    """What all layers know of relative positions: the distances [1, 1, S, S] and a table of their embeddings."""

    relative: Tensor
    table: Tensor


class DebertaV2(Encoder):
    """DebertaV2Model below a head."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"deberta-v2": ("query_proj", "value_proj")}

    def __init__(self, build: Builder, config: Config) -> None:
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
        kinds = layer_kinds(config, self.count)
        self.kinds_of_layers = kinds
        self.layers = [self._layer(build, f"deberta.encoder.layer.{position}") for position in build.layers(kinds)]
        self._distances(build, config)
        self.convolution = ConvolutionLayer.of(build, config, self.hidden, self.dropout)
        self._head(build, config)

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
        self.embedding_norm = LayerNorm.of(build, f"{table}.LayerNorm", self.hidden)

    def _table(self, build: Builder, name: str, rows: int) -> Parameter | None:
        return build.parameter(f"{name}.weight", (rows, self.width)) if rows else None

    def _layer(self, build: Builder, name: str) -> DisentangledLayer:
        size, attn, width = self.hidden, f"{name}.attention", self.heads * self.head_size
        q = build.linear(f"{attn}.self.query_proj", size, width, bias=True)
        k = build.linear(f"{attn}.self.key_proj", size, width, bias=True)
        v = build.linear(f"{attn}.self.value_proj", size, width, bias=True)
        own = self.relative and not self.shares_keys
        position_k = position_q = None
        if own and "c2p" in self.kinds:
            position_k = build.linear(f"{attn}.self.pos_key_proj", size, width, bias=True)
        if own and "p2c" in self.kinds:
            position_q = build.linear(f"{attn}.self.pos_query_proj", size, width, bias=True)
        return DisentangledLayer(
            q=q,
            k=k,
            v=v,
            position_k=position_k or k,
            position_q=position_q or q,
            o=build.linear(f"{attn}.output.dense", width, size, bias=True),
            attention_norm=LayerNorm.of(build, f"{attn}.output.LayerNorm", size),
            up=build.linear(f"{name}.intermediate.dense", size, self.inner, bias=True),
            down=build.linear(f"{name}.output.dense", self.inner, size, bias=True),
            output_norm=LayerNorm.of(build, f"{name}.output.LayerNorm", size),
        )

    def _distances(self, build: Builder, config: Config) -> None:
        """The table of relative positions, and its norm."""
        farthest = number(config, "max_relative_positions", default=-1)
        if farthest < 1:
            farthest = number(config, "max_position_embeddings", default=512)
        buckets = number(config, "position_buckets", default=-1)
        self.buckets = buckets > 0
        rows = 2 * (buckets if self.buckets else farthest)
        name = "deberta.encoder"
        self.distance_table = (
            build.parameter(f"{name}.rel_embeddings.weight", (rows, self.hidden)) if self.relative else None
        )
        normed = "layer_norm" in str(config.get("norm_rel_ebd", "none")).lower()
        self.distance_norm = LayerNorm.of(build, f"{name}.LayerNorm", self.hidden) if normed else None
        if self.distance_norm is not None and self.relative and build.reentrant:
            raise NotFollowedError("reentrant checkpointing of normed relative positions, which torch refuses,")

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
        states = [Kept(start, tape.unit)]

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.layers[index]

            x = regime.layer(tape, lambda *y: self._forward(tape, weights, y, distances), x, pairs)
            if index == 0 and self.convolution is not None:
                x = self.convolution(tape, start, x, mask)
            states.append(Kept(x, tape.unit))
            return x

        hidden = tape.repeat(self.kinds_of_layers, layer, start)
        tape.drop(states)
        del types
        return hidden

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
        hidden = e.dropout(tape, hidden, self.dropout)
        del positioned
        return hidden

    def _all_distances(self, tape: Tape, length: int) -> Distances | None:
        """get_rel_pos and get_rel_embedding."""
        if self.distance_table is None:
            return None
        relative = disentangled.relative_positions(tape, length, buckets=self.buckets)
        table: Tensor = self.distance_table
        if self.distance_norm is not None:
            table = self.distance_norm(tape, table)
        return Distances(relative.as_shape((1, 1, length, length)), table)

    def _forward(
        self, tape: Tape, w: DisentangledLayer, inputs: tuple[Tensor, Tensor], distances: Distances | None
    ) -> Tensor:
        """The states and which pairs of tokens count are positional arguments, the distances are none."""
        hidden, pairs = inputs
        attended = self._attention(tape, w, hidden, pairs, distances)
        attended = add_and_norm(tape, attended, hidden, w.o, w.attention_norm, self.dropout)
        fed = activation(tape, self.activation, linear(tape, attended, w.up))
        return add_and_norm(tape, fed, attended, w.down, w.output_norm, self.dropout)

    def _attention(
        self, tape: Tape, w: DisentangledLayer, hidden: Tensor, pairs: Tensor, distances: Distances | None
    ) -> Tensor:
        """DisentangledSelfAttention.forward; what has a name there lives until the end."""
        q, k, v = (disentangled.heads_apart(tape, linear(tape, hidden, part), self.heads) for part in (w.q, w.k, w.v))
        scores = disentangled.content_scores(tape, q, k)
        bias = table = None
        if distances is not None:
            table = e.dropout(tape, distances.table, self.dropout)
            bias = self._bias(tape, w, (q, k), table, distances.relative)
            scores = e.add_number(tape, scores) if bias is None else e.add(tape, scores, bias)
        shown = tape.empty(pairs.shape, "bool", "attention mask")
        scores = masked_fill(tape, scores, tape.empty(pairs.shape, "bool", "attention mask"))
        weights = softmax(tape, scores, in_float32=False)
        weights = e.dropout(tape, weights, self.attention_dropout)
        context = bmm(tape, weights, v, q.shape)
        context = attention.merge_heads(tape, context)
        del shown, bias, table
        return context

    def _bias(
        self, tape: Tape, w: DisentangledLayer, states: tuple[Tensor, Tensor], table: Tensor, relative: Tensor
    ) -> Tensor | None:
        """disentangled_attention_bias: by content to position, then by position to content."""
        q, k = states
        table = e.part(tape, table, (1, *table.shape))
        batch = q.shape[0]
        position_q, position_k = self._position_heads(tape, w, table, batch)
        bias: Tensor | None = None
        named: list[Tensor] = []
        if "c2p" in self.kinds and position_k is not None:
            found = disentangled.content_to_position(tape, q, position_k, relative)
            bias = e.add_number(tape, e.linear_unary(tape, "div", found[0]))
            named += found
        if "p2c" in self.kinds and position_q is not None:
            found = disentangled.position_to_content(tape, k, position_q, relative)
            scaled = e.linear_unary(tape, "div", found[0])
            bias = e.add_number(tape, scaled) if bias is None else e.add_in_place(tape, bias, scaled)
            named += found
        return bias

    def _position_heads(
        self, tape: Tape, w: DisentangledLayer, table: Tensor, batch: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """Queries and keys of positions: both are made where the contents' weights are used, asked for or not."""

        def heads(weights: Weights) -> Tensor:
            return disentangled.position_heads(tape, linear(tape, table, weights), self.heads, batch)

        q = k = None
        if not self.shares_keys:
            k = heads(w.position_k) if "c2p" in self.kinds else None
            q = heads(w.position_q) if "p2c" in self.kinds else None
            return q, k
        with tape.grad_mode(enabled=tape.grad_enabled and "p2c" in self.kinds):
            q = heads(w.position_q)
        with tape.grad_mode(enabled=tape.grad_enabled and "c2p" in self.kinds):
            k = heads(w.position_k)
        return q, k


@dataclass(slots=True)
class ConvolutionLayer:
    """ConvLayer: a convolution of the embeddings that is added behind the first layer."""

    convolution: Convolution
    norm: LayerNorm
    activation: str
    dropout: float

    @classmethod
    def of(cls, build: Builder, config: Config, hidden: int, dropout: float) -> ConvolutionLayer | None:
        """The layer, where the config has one."""
        kernel = number(config, "conv_kernel_size", default=0)
        if kernel <= 0:
            return None
        name, groups = "deberta.encoder.conv", number(config, "conv_groups", default=1)
        return cls(
            Convolution.of(build, f"{name}.conv", (hidden, hidden // groups, kernel)),
            LayerNorm.of(build, f"{name}.LayerNorm", hidden),
            str(config.get("conv_act", "tanh")),
            dropout,
        )

    def __call__(self, tape: Tape, hidden: Tensor, residual: Tensor, mask: Tensor) -> Tensor:
        """Masked before it is added and after."""
        batch, length, size = hidden.shape
        out = self.convolution(tape, e.reordered(tape, hidden, (batch, size, length)), length)
        out = e.reordered(tape, out, hidden.shape)
        inverse = tape.empty(mask.shape, mask.dtype, "rsub")
        hidden_rows = tape.empty(mask.shape, "bool", "mask")
        del inverse
        out = masked_fill_in_place(tape, out, hidden_rows)
        out = activation(tape, self.activation, e.dropout(tape, out, self.dropout))
        summed = e.add(tape, residual, out)
        return masked(tape, self.norm(tape, summed), mask)


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


def layer_kinds(config: Config, count: int) -> Sequence[bool]:
    """Whether a convolution stands behind each layer."""
    convolved = number(config, "conv_kernel_size", default=0) > 0
    return [convolved and position == 0 for position in range(count)]
