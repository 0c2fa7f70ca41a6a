"""DeBERTa, the first: one product for queries, keys and values, norms in operators (5.23 models/deberta)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from vramlint.memory.architectures.deberta_body import DebertaBody, DisentangledLayer, Distances
from vramlint.memory.architectures.family import Config, LayerNorm
from vramlint.memory.ops import attention, disentangled, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.fused_heads import chunked_heads
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.norm import layer_norm_of_quotients
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder


class QuotientNorm(LayerNorm, frozen=True):
    """DebertaLayerNorm."""

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        """Normalise over the last dimension."""
        return layer_norm_of_quotients(tape, x, *self.parameters())


class FusedLayer(DisentangledLayer):
    """Weights of one layer."""

    qkv: Weights
    q_bias: Parameter
    v_bias: Parameter
    position_k: Weights | None
    position_q: Weights | None


class Deberta(DebertaBody[FusedLayer]):
    """DebertaModel below a head."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"deberta": ("in_proj",)}
    norm: ClassVar[type[LayerNorm]] = QuotientNorm

    def _kinds_of_layers(self, config: Config) -> Sequence[bool]:
        if config.get("talking_head", False):
            raise NotFollowedError("talking_head")
        return super()._kinds_of_layers(config)

    def _layer(self, build: Builder, name: str) -> FusedLayer:
        size, attn = self.hidden, f"{name}.attention"
        own = f"{attn}.self"
        qkv = build.linear(f"{own}.in_proj", size, 3 * size)
        c2p, p2c = "c2p" in self.kinds, "p2c" in self.kinds
        return FusedLayer(
            qkv=qkv,
            q_bias=build.parameter(f"{own}.q_bias", (size,), decay=False),
            v_bias=build.parameter(f"{own}.v_bias", (size,), decay=False),
            position_k=build.linear(f"{own}.pos_proj", size, size) if c2p else None,
            position_q=build.linear(f"{own}.pos_q_proj", size, size, bias=True) if p2c else None,
            o=build.linear(f"{attn}.output.dense", size, size, bias=True),
            attention_norm=self.norm.of(build, f"{attn}.output.LayerNorm", size),
            up=build.linear(f"{name}.intermediate.dense", size, self.inner, bias=True),
            down=build.linear(f"{name}.output.dense", self.inner, size, bias=True),
            output_norm=self.norm.of(build, f"{name}.output.LayerNorm", size),
        )

    def _attention(
        self, tape: Tape, w: FusedLayer, hidden: Tensor, pairs: Tensor, distances: Distances | None
    ) -> Tensor:
        """DisentangledSelfAttention.forward; what has a name there lives until the end."""
        qkv = linear(tape, hidden, w.qkv)
        q, k, v = chunked_heads(tape, qkv, self.heads)
        q, v = e.add(tape, q, self._bias_heads(tape, w.q_bias)), e.add(tape, v, self._bias_heads(tape, w.v_bias))
        q = e.linear_unary(tape, "div", q)
        scores = attention.scores(tape, q, k)
        bias = table = None
        if distances is not None:
            table = self.drop(tape, distances.table, self.dropout)
            bias = self._bias(tape, w, (q, k), table, distances.relative)
        if bias is not None:
            scores = e.add(tape, scores, bias)
        elif self.rewritten or distances is not None:
            scores = e.add_number(tape, scores)
        scores, shown = self._masked(tape, scores, pairs)
        weights = self._probabilities(tape, scores, pairs)
        context = attention.merge_heads(tape, attention.weighted(tape, weights, v))
        del qkv, shown, bias, table
        return context

    def _bias_heads(self, tape: Tape, bias: Parameter) -> Tensor:
        return shaping.viewed(tape, bias, (1, self.heads, 1, self.hidden // self.heads))

    def _bias(
        self, tape: Tape, w: FusedLayer, states: tuple[Tensor, Tensor], table: Tensor, relative: Tensor
    ) -> Tensor | None:
        """disentangled_att_bias: by content to position, then by position to content."""
        q, k = states
        reach = min(q.shape[2], self.farthest)
        table = shaping.part(tape, table, (1, 2 * reach, self.hidden))
        bias: Tensor | None = None
        named: list[Tensor] = []
        if w.position_k is not None:
            positions = attention.split_heads(tape, linear(tape, table, w.position_k), self.heads)
            found = disentangled.content_to_position(tape, q, positions, relative, disentangled.broadcast_products)
            bias = e.add_number(tape, found[0])
            named += [positions, *found]
        if w.position_q is not None:
            positions = attention.split_heads(tape, linear(tape, table, w.position_q), self.heads)
            positions = disentangled.scale_in_place(tape, positions)
            found = disentangled.position_to_content(tape, k, positions, relative, disentangled.broadcast_products)
            bias = e.add_number(tape, found[0]) if bias is None else e.add_in_place(tape, bias, found[0])
            named += [positions, *found]
        return bias
