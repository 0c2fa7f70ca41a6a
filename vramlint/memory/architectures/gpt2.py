"""GPT-2: learned positions, fused qkv in Conv1D, layer norms, dropout (transformers 5.23 models/gpt2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct

from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import Config, LayerNorm, number, probability
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

CAUSAL_BUFFERS_UNTIL = (5, 0)
"""Before this version of transformers every layer registered a bool causal mask [1, 1, positions, positions]."""


class Layer(Struct):
    """Weights of one block."""

    ln_1: LayerNorm
    c_attn: Weights
    attn_proj: Weights
    ln_2: LayerNorm
    c_fc: Weights
    mlp_proj: Weights


class GPT2(CausalLM):
    """GPT2LMHeadModel."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"gpt2": ("c_attn",)}
    widens_logits: ClassVar[bool] = False
    own_loss_until: tuple[int, ...] = (4, 48)
    default_activation: ClassVar[str] = "gelu_new"
    widens_softmax: ClassVar[bool] = False
    """Whether eager attention takes its softmax in float32."""

    def __init__(self, build: Builder, config: Config) -> None:
        if config.get("add_cross_attention"):
            raise NotFollowedError("cross-attention in a decoder")
        if config.get("reorder_and_upcast_attn") and build.implementation == "eager":
            raise NotFollowedError("reorder_and_upcast_attn")
        self.hidden = number(config, "n_embd", "hidden_size", default=768)
        self.heads = number(config, "n_head", "num_attention_heads", default=12)
        self.count = number(config, "n_layer", "num_hidden_layers", default=12)
        self.attention_dropout = probability(config, "attn_pdrop", default=0.1)
        self.residual_dropout = probability(config, "resid_pdrop", default=0.1)
        self.embedding_dropout = probability(config, "embd_pdrop", default=0.1)
        self.activation = str(config.get("activation_function", self.default_activation))
        limit = number(config, "n_positions", "max_position_embeddings", default=1024)
        vocabulary = number(config, "vocab_size", default=50257)
        inner = number(config, "n_inner", default=4 * self.hidden)
        self.embedding = build.parameter("transformer.wte.weight", (vocabulary, self.hidden))
        self.position_embedding = build.parameter("transformer.wpe.weight", (limit, self.hidden))
        self._buffers(build, limit)
        self.layers = []
        for position in build.layers(self.count):
            self._layer_buffers(build, limit)
            self.layers.append(self._layer(build, inner, f"transformer.h.{position}"))
        self.ln_f = LayerNorm.of(build, "transformer.ln_f", self.hidden)
        self.head = self.build_head(build, config, "lm_head", self.hidden, vocabulary, ties=True)

    def _buffers(self, build: Builder, positions: int) -> None:
        """None of the whole model's."""

    def _layer_buffers(self, build: Builder, positions: int) -> None:
        if build.transformers < CAUSAL_BUFFERS_UNTIL:
            build.buffer(positions * positions)
            build.buffer(4)

    def _layer(self, build: Builder, inner: int, name: str) -> Layer:
        return Layer(
            ln_1=LayerNorm.of(build, f"{name}.ln_1", self.hidden),
            c_attn=build.linear(f"{name}.attn.c_attn", self.hidden, 3 * self.hidden, bias=True, transposed=True),
            attn_proj=build.linear(f"{name}.attn.c_proj", self.hidden, self.hidden, bias=True, transposed=True),
            ln_2=LayerNorm.of(build, f"{name}.ln_2", self.hidden),
            c_fc=build.linear(f"{name}.mlp.c_fc", self.hidden, inner, bias=True, transposed=True),
            mlp_proj=build.linear(f"{name}.mlp.c_proj", inner, self.hidden, bias=True, transposed=True),
        )

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """GPT2Model.forward."""
        order = tape.empty((1, embedded.shape[1]), "int64", "position ids")
        positioned = embedding(tape, order, self.position_embedding)
        entering = [e.add(tape, embedded, positioned)]  # handed over: no name here keeps it through the layers
        mask = regime.mask(tape, embedded, None)

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.layers[index]
            return regime.layer(tape, lambda y: self._forward(tape, regime, weights, y, mask), x)

        hidden = tape.course.repeat(self.count, layer, [e.dropout(tape, entering.pop(), self.embedding_dropout)])
        return self.ln_f(tape, hidden)

    def _forward(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor | None) -> Tensor:
        residual = hidden
        hidden = w.ln_1(tape, hidden)
        attended = self._attention(tape, regime, w, hidden, mask)
        hidden = e.add(tape, attended, residual)
        residual = hidden
        hidden = w.ln_2(tape, hidden)
        fed = linear(tape, activation(tape, self.activation, linear(tape, hidden, w.c_fc)), w.mlp_proj)
        fed = e.dropout(tape, fed, self.residual_dropout)
        return e.add(tape, residual, fed)

    def _attention(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = self._split(tape, linear(tape, hidden, w.c_attn))
        wide = self.widens_softmax
        out = regime.attend(tape, q, k, v, mask, self.attention_dropout, widens=wide, narrows=not wide)
        out = linear(tape, out, w.attn_proj)
        return e.dropout(tape, out, self.residual_dropout)

    def _split(self, tape: Tape, fused: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values by head."""
        parts = shaping.split_last(tape, fused, (self.hidden,) * 3)
        q, k, v = (attention.split_heads(tape, part, self.heads) for part in parts)
        return q, k, v
