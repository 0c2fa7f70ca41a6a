"""DeBERTa v2 and v3: positions may share the weights of contents (transformers 5.23 models/deberta_v2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec import Struct

from vramlint.memory.architectures.deberta_body import KEYWORDS_FROM, DebertaBody, DisentangledLayer, Distances, masked
from vramlint.memory.architectures.encoder import Drop
from vramlint.memory.architectures.family import Config, LayerNorm, number
from vramlint.memory.ops import attention, disentangled, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.convolution import Convolution
from vramlint.memory.ops.indexing import masked_fill_in_place
from vramlint.memory.ops.linear import Weights, bmm, linear
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class SplitLayer(DisentangledLayer):
    """Weights of one layer; those for positions may be the contents' own."""

    q: Weights
    k: Weights
    v: Weights
    position_k: Weights
    position_q: Weights


class DebertaV2(DebertaBody[SplitLayer]):
    """DebertaV2Model below a head."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"deberta-v2": ("query_proj", "value_proj")}

    def _kinds_of_layers(self, config: Config) -> Sequence[bool]:
        """Whether a convolution stands behind each layer."""
        convolved = number(config, "conv_kernel_size", default=0) > 0
        return [convolved and position == 0 for position in range(self.count)]

    def _layer(self, build: Builder, name: str) -> SplitLayer:
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
        return SplitLayer(
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
        super()._distances(build, config)
        name = "deberta.encoder.LayerNorm"
        normed = "layer_norm" in str(config.get("norm_rel_ebd", "none")).lower()
        self.distance_norm = LayerNorm.of(build, name, self.hidden) if normed else None
        again = build.reentrant and build.transformers >= KEYWORDS_FROM
        if self.distance_norm is not None and self.relative and again:
            raise NotFollowedError("reentrant checkpointing of normed relative positions, which torch refuses,")
        self.convolution = ConvolutionLayer.of(build, config, self.hidden, self.dropout, self.drop)

    def _normed_table(self, tape: Tape, table: Tensor) -> Tensor:
        return table if self.distance_norm is None else self.distance_norm(tape, table)

    def _behind_first(self, tape: Tape, start: Tensor, hidden: Tensor, mask: Tensor) -> Tensor:
        return hidden if self.convolution is None else self.convolution(tape, start, hidden, mask)

    def _attention(
        self, tape: Tape, w: SplitLayer, hidden: Tensor, pairs: Tensor, distances: Distances | None
    ) -> Tensor:
        """DisentangledSelfAttention.forward; what has a name there lives until the end."""
        q, k, v = (disentangled.heads_apart(tape, linear(tape, hidden, part), self.heads) for part in (w.q, w.k, w.v))
        scores = disentangled.content_scores(tape, q, k)
        bias = table = None
        if distances is not None:
            table = self.drop(tape, distances.table, self.dropout)
            bias = self._bias(tape, w, (q, k), table, distances.relative)
            scores = e.add_number(tape, scores) if bias is None else e.add(tape, scores, bias)
        scores, shown = self._masked(tape, scores, pairs)
        weights = self._probabilities(tape, scores, pairs)
        context = bmm(tape, weights, v, q.shape)
        context = attention.merge_heads(tape, context)
        del shown, bias, table
        return context

    def _bias(
        self, tape: Tape, w: SplitLayer, states: tuple[Tensor, Tensor], table: Tensor, relative: Tensor
    ) -> Tensor | None:
        """disentangled_attention_bias: by content to position, then by position to content."""
        q, k = states
        table = shaping.part(tape, table, (1, *table.shape))
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
        self, tape: Tape, w: SplitLayer, table: Tensor, batch: int
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


class ConvolutionLayer(Struct):
    """ConvLayer: a convolution of the embeddings that is added behind the first layer."""

    convolution: Convolution
    norm: LayerNorm
    activation: str
    dropout: float
    drop: Drop

    @classmethod
    def of(cls, build: Builder, config: Config, hidden: int, dropout: float, drop: Drop) -> ConvolutionLayer | None:
        """The layer, where the config has one."""
        kernel = number(config, "conv_kernel_size", default=0)
        if kernel <= 0:
            return None
        name, groups = "deberta.encoder.conv", number(config, "conv_groups", default=1)
        return cls(
            Convolution.of(build, f"{name}.conv", (hidden, hidden // groups, kernel), grouped=groups > 1),
            LayerNorm.of(build, f"{name}.LayerNorm", hidden),
            str(config.get("conv_act", "tanh")),
            dropout,
            drop,
        )

    def __call__(self, tape: Tape, hidden: Tensor, residual: Tensor, mask: Tensor) -> Tensor:
        """Masked before it is added and after."""
        batch, length, size = hidden.shape
        out = self.convolution(tape, shaping.reordered(tape, hidden, (batch, size, length)), length)
        out = shaping.reordered(tape, out, hidden.shape)
        inverse = tape.empty(mask.shape, mask.dtype, "rsub")
        hidden_rows = tape.empty(mask.shape, "bool", "mask")
        del inverse
        out = masked_fill_in_place(tape, out, hidden_rows)
        out = activation(tape, self.activation, self.drop(tape, out, self.dropout))
        summed = e.add(tape, residual, out)
        return masked(tape, self.norm(tape, summed), mask)
