"""XGLM: scaled embeddings, sinusoids, attention written out as batched products (transformers 5.23 models/xglm)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct

from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import Config, LayerNorm, number, probability
from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

POSITION_OFFSET = 2
"""Rows of the position table before the first position."""
RETURNS_WEIGHTS_FROM = (5, 0)
"""Since then attention returns its probabilities unasked."""


class Layer(Struct):
    """Weights of one decoder layer."""

    k: Weights
    v: Weights
    q: Weights
    o: Weights
    attention_norm: LayerNorm
    up: Weights
    down: Weights
    final_norm: LayerNorm


class XGLM(CausalLM):
    """XGLMForCausalLM. LayerDrop is taken to drop no layer, which needs the most."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    widens_logits: ClassVar[bool] = False
    own_loss_until: tuple[int, ...] = (4, 48)

    def __init__(self, build: Builder, config: Config) -> None:
        if config.get("add_cross_attention"):
            raise NotFollowedError("cross-attention in a decoder")
        self.hidden = number(config, "d_model", "hidden_size", default=1024)
        self.heads = number(config, "attention_heads", "num_attention_heads", default=16)
        self.count = number(config, "num_layers", "num_hidden_layers", default=24)
        self.dropout = probability(config, "dropout", default=0.1)
        self.attention_dropout = probability(config, "attention_dropout", default=0.1)
        self.activation_dropout = probability(config, "activation_dropout")
        self.activation = str(config.get("activation_function", "gelu"))
        self.dtype = build.dtype
        limit = number(config, "max_position_embeddings", default=2048) + POSITION_OFFSET
        vocabulary = number(config, "vocab_size", default=256008)
        inner = number(config, "ffn_dim", default=4096)
        build.buffer(build.width * limit * self.hidden)
        self.embedding = build.parameter("model.embed_tokens.weight", (vocabulary, self.hidden))
        self.layers = [self._layer(build, inner, f"model.layers.{position}") for position in build.layers(self.count)]
        self.norm = LayerNorm.of(build, "model.layer_norm", self.hidden)
        self.head = self.build_head(build, config, "lm_head", self.hidden, vocabulary, ties=True)

    def _layer(self, build: Builder, inner: int, name: str) -> Layer:
        size = self.hidden
        return Layer(
            k=build.linear(f"{name}.self_attn.k_proj", size, size, bias=True),
            v=build.linear(f"{name}.self_attn.v_proj", size, size, bias=True),
            q=build.linear(f"{name}.self_attn.q_proj", size, size, bias=True),
            o=build.linear(f"{name}.self_attn.out_proj", size, size, bias=True),
            attention_norm=LayerNorm.of(build, f"{name}.self_attn_layer_norm", size),
            up=build.linear(f"{name}.fc1", size, inner, bias=True),
            down=build.linear(f"{name}.fc2", inner, size, bias=True),
            final_norm=LayerNorm.of(build, f"{name}.final_layer_norm", size),
        )

    def embed(self, tape: Tape, tokens: Tensor) -> Tensor:
        """Token embeddings times a constant."""
        return e.linear_unary(tape, "mul", super().embed(tape, tokens))

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """XGLMModel.forward."""
        batch, length = embedded.shape[:2]
        mask = tape.empty((batch, 1, length, length), embedded.dtype, "attention mask")
        positioned = [tape.empty((1, length, self.hidden), self.dtype, "position embeddings")]
        entering = [e.add(tape, embedded, positioned.pop())]

        def layer(x: Tensor, index: int) -> Tensor:
            return regime.layer(tape, lambda y: self._forward(tape, regime, self.layers[index], y, mask), x)

        hidden = tape.course.repeat(self.count, layer, [e.dropout(tape, entering.pop(), self.dropout)])
        return self.norm(tape, hidden)

    def _forward(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor) -> Tensor:
        residual = hidden
        hidden = w.attention_norm(tape, hidden)
        hidden = self._attention(tape, regime, w, hidden, mask)
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = e.add(tape, residual, hidden)
        residual = hidden
        hidden = w.final_norm(tape, hidden)
        hidden = activation(tape, self.activation, linear(tape, hidden, w.up))
        hidden = e.dropout(tape, hidden, self.activation_dropout)
        hidden = linear(tape, hidden, w.down)
        hidden = e.dropout(tape, hidden, self.dropout)
        return e.add(tape, residual, hidden)

    def _attention(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor) -> Tensor:
        q = e.linear_unary(tape, "mul", linear(tape, hidden, w.q))
        k, v = linear(tape, hidden, w.k), linear(tape, hidden, w.v)
        q, k, v = (attention.split_heads(tape, x, self.heads) for x in (q, k, v))
        if regime.use_cache:
            k, v = regime.cached(tape, k, k.dtype), regime.cached(tape, v, k.dtype)
        q, k, v = (attention.heads_first(tape, x) for x in (q, k, v))
        weights = attention.scores(tape, q, k)
        weights = e.add(tape, weights, mask)
        weights = e.at_least(tape, weights)
        narrow = weights.dtype
        weights = softmax(tape, weights, in_float32=narrow == "float16")
        weights = tape.to(weights, narrow) if narrow == "float16" else weights
        probabilities = e.dropout(tape, weights, self.attention_dropout)
        out = attention.weighted(tape, probabilities, v)
        out = attention.merge_heads(tape, out)
        if regime.transformers >= RETURNS_WEIGHTS_FROM:
            tape.held.append(weights)
        return linear(tape, out, w.o)
