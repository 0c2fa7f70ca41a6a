"""OPT: learned positions with an offset, layer norms before or after (transformers 5.23 models/opt)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import Config, LayerNorm, number, probability
from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

SHARED_MASKS_FROM = (5, 0)
"""Before this version of transformers the model built its mask itself."""
POSITION_OFFSET = 2
"""Rows of the position table before the first position."""


class Layer(Struct):
    """Weights of one decoder layer."""

    q: Weights
    k: Weights
    v: Weights
    o: Weights
    attention_norm: LayerNorm
    up: Weights
    down: Weights
    final_norm: LayerNorm


class OPT(CausalLM):
    """OPTForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"opt": ("q_proj", "v_proj")}
    widens_logits: ClassVar[bool] = False
    own_loss_until: tuple[int, ...] = (4, 48)

    def __init__(self, build: Builder, config: Config) -> None:
        self.hidden = number(config, "hidden_size")
        self.heads = number(config, "num_attention_heads")
        self.count = number(config, "num_hidden_layers")
        self.before = bool(config.get("do_layer_norm_before", True))
        self.activation = str(config.get("activation_function", "relu"))
        self.dropout = probability(config, "dropout", default=0.1)
        self.attention_dropout = probability(config, "attention_dropout")
        self.bias = bool(config.get("enable_bias", True))
        self.affine = bool(config.get("layer_norm_elementwise_affine", True))
        width = number(config, "word_embed_proj_dim", default=self.hidden)
        positions = number(config, "max_position_embeddings", default=2048) + POSITION_OFFSET
        vocabulary, inner = number(config, "vocab_size"), number(config, "ffn_dim")
        name = "model.decoder"
        self.embedding = build.parameter(f"{name}.embed_tokens.weight", (vocabulary, width))
        self.position_embedding = build.parameter(f"{name}.embed_positions.weight", (positions, self.hidden))
        narrow = width != self.hidden
        self.project_out = build.linear(f"{name}.project_out", self.hidden, width) if narrow else None
        self.project_in = build.linear(f"{name}.project_in", width, self.hidden) if narrow else None
        self.norm = self._norm(build, f"{name}.final_layer_norm") if self.before else None
        self.layers = [self._layer(build, inner, f"{name}.layers.{position}") for position in build.layers(self.count)]
        self.head = self.build_head(build, config, "lm_head", width, vocabulary, ties=True)

    def _norm(self, build: Builder, name: str) -> LayerNorm:
        return LayerNorm.of(build, name, self.hidden) if self.affine else LayerNorm(None, None)

    def _layer(self, build: Builder, inner: int, name: str) -> Layer:
        size = self.hidden
        return Layer(
            k=build.linear(f"{name}.self_attn.k_proj", size, size, bias=self.bias),
            v=build.linear(f"{name}.self_attn.v_proj", size, size, bias=self.bias),
            q=build.linear(f"{name}.self_attn.q_proj", size, size, bias=self.bias),
            o=build.linear(f"{name}.self_attn.out_proj", size, size, bias=self.bias),
            attention_norm=self._norm(build, f"{name}.self_attn_layer_norm"),
            up=build.linear(f"{name}.fc1", size, inner, bias=self.bias),
            down=build.linear(f"{name}.fc2", inner, size, bias=self.bias),
            final_norm=self._norm(build, f"{name}.final_layer_norm"),
        )

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """OPTDecoder.forward over embeddings that the caller keeps."""
        return self.handed(tape, regime, [embedded])

    def handed(self, tape: Tape, regime: Regime, entering: list[Tensor]) -> Tensor:
        """OPTDecoder.forward."""
        embedded = entering.pop()
        order = tape.empty(embedded.shape[:2], "int64", "position ids")
        own = regime.transformers < SHARED_MASKS_FROM
        arguments = (order, tape.empty((embedded.shape[1],), "int64", "cache position") if own else None)
        mask = self._mask(tape, regime, embedded)
        # the table is looked up at position + offset, a tensor of its own
        positioned = embedding(tape, tape.empty(order.shape, "int64", "offset positions"), self.position_embedding)
        if self.project_in is not None:
            embedded = linear(tape, embedded, self.project_in)

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.layers[index]
            return regime.layer(tape, lambda y: self._forward(tape, regime, weights, y, mask), x, arguments=arguments)

        hidden = tape.course.repeat(self.count, layer, [e.add(tape, embedded, positioned)])
        if self.norm is not None:
            hidden = self.norm(tape, hidden)
        return hidden if self.project_out is None else linear(tape, hidden, self.project_out)

    def _mask(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor | None:
        """Before masks were shared, the model made one of ones where it got none."""
        if regime.transformers >= SHARED_MASKS_FROM:
            return regime.mask(tape, embedded, None)
        padded = regime.padding and regime.attention_mask
        return replace(regime, padding=padded, attention_mask=True).unshared_mask(tape, embedded)

    def _forward(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor | None) -> Tensor:
        shape = hidden.shape
        residual = hidden
        if self.before:
            hidden = w.attention_norm(tape, hidden)
        hidden = self._attention(tape, regime, w, hidden, mask)
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = e.add(tape, residual, hidden)
        if not self.before:
            hidden = w.attention_norm(tape, hidden)
        hidden = hidden.as_shape((hidden.numel // self.hidden, self.hidden))
        residual = hidden
        if self.before:
            hidden = w.final_norm(tape, hidden)
        hidden = linear(tape, activation(tape, self.activation, linear(tape, hidden, w.up)), w.down)
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = e.add(tape, residual, hidden).as_shape(shape)
        return hidden if self.before else w.final_norm(tape, hidden)

    def _attention(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor | None) -> Tensor:
        q = attention.split_heads(tape, e.linear_unary(tape, "mul", linear(tape, hidden, w.q)), self.heads)
        k = attention.split_heads(tape, linear(tape, hidden, w.k), self.heads)
        v = attention.split_heads(tape, linear(tape, hidden, w.v), self.heads)
        return linear(tape, regime.attend(tape, q, k, v, mask, self.attention_dropout), w.o)
