"""GPT: norms behind attention and MLP, a mask of numbers that scores are multiplied with.

transformers 5.23 models/openai. The model has neither sdpa nor checkpointing.
"""

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
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

ACTIVATIONS: Mapping[str, str] = {"gelu": "gelu_new", "swish": "silu"}
"""Names of activations that mean others in ACT2FN."""


class Layer(Struct):
    """Weights of one block."""

    c_attn: Weights
    attn_proj: Weights
    ln_1: LayerNorm
    c_fc: Weights
    mlp_proj: Weights
    ln_2: LayerNorm


class OpenAIGPT(CausalLM):
    """OpenAIGPTLMHeadModel."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    widens_logits: ClassVar[bool] = False
    own_loss_until: tuple[int, ...] = (4, 48)

    def __init__(self, build: Builder, config: Config) -> None:
        self.hidden = number(config, "n_embd", "hidden_size", default=768)
        self.heads = number(config, "n_head", "num_attention_heads", default=12)
        self.count = number(config, "n_layer", "num_hidden_layers", default=12)
        self.attention_dropout = probability(config, "attn_pdrop", default=0.1)
        self.residual_dropout = probability(config, "resid_pdrop", default=0.1)
        self.embedding_dropout = probability(config, "embd_pdrop", default=0.1)
        name = str(config.get("afn", "gelu"))
        self.activation = ACTIVATIONS.get(name, name)
        self.dtype = build.dtype
        limit = number(config, "n_positions", "max_position_embeddings", default=512)
        vocabulary = number(config, "vocab_size", default=40478)
        build.buffer(8 * limit)
        self.embedding = build.parameter("transformer.tokens_embed.weight", (vocabulary, self.hidden))
        self.position_embedding = build.parameter("transformer.positions_embed.weight", (limit, self.hidden))
        self.layers: list[Layer] = []
        for position in build.layers(self.count):
            build.buffer(build.width * limit * limit)
            self.layers.append(self._layer(build, f"transformer.h.{position}"))
        self.head = self.build_head(build, config, "lm_head", self.hidden, vocabulary, ties=True)

    def _layer(self, build: Builder, name: str) -> Layer:
        size = self.hidden
        return Layer(
            c_attn=build.linear(f"{name}.attn.c_attn", size, 3 * size, bias=True),
            attn_proj=build.linear(f"{name}.attn.c_proj", size, size, bias=True),
            ln_1=LayerNorm.of(build, f"{name}.ln_1", size),
            c_fc=build.linear(f"{name}.mlp.c_fc", size, 4 * size, bias=True),
            mlp_proj=build.linear(f"{name}.mlp.c_proj", 4 * size, size, bias=True),
            ln_2=LayerNorm.of(build, f"{name}.ln_2", size),
        )

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """OpenAIGPTModel.forward."""
        batch, length = embedded.shape[:2]
        mask = tape.empty((batch, 1, 1, length), self.dtype, "attention mask") if regime.attention_mask else None
        order = Tensor((1, length), "int64", None)
        positioned = embedding(tape, order, self.position_embedding)
        # the embeddings of token types are the number 0 where there are none
        entering = [e.add_number(tape, e.add(tape, embedded, positioned))]

        def layer(x: Tensor, index: int) -> Tensor:
            return self._forward(tape, self.layers[index], x, mask)

        return tape.course.repeat(self.count, layer, [e.dropout(tape, entering.pop(), self.embedding_dropout)])

    def _forward(self, tape: Tape, w: Layer, hidden: Tensor, mask: Tensor | None) -> Tensor:
        attended = self._attention(tape, w, hidden, mask)
        normed = w.ln_1(tape, e.add(tape, hidden, attended))
        fed = self._mlp(tape, w, normed)
        return w.ln_2(tape, e.add(tape, normed, fed))

    def _mlp(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        hidden = activation(tape, self.activation, linear(tape, x, w.c_fc))
        output = linear(tape, hidden, w.mlp_proj)
        return e.dropout(tape, output, self.residual_dropout)

    def _attention(self, tape: Tape, w: Layer, x: Tensor, mask: Tensor | None) -> Tensor:
        x = linear(tape, x, w.c_attn)
        q, k, v = (
            attention.split_heads(tape, part, self.heads) for part in shaping.split_last(tape, x, (self.hidden,) * 3)
        )
        outputs = self._attend(tape, q, k, v, mask)
        out = attention.merge_heads(tape, outputs)
        out = linear(tape, out, w.attn_proj)
        return e.dropout(tape, out, self.residual_dropout)

    def _attend(self, tape: Tape, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        weights = attention.scores(tape, q, k)
        weights = e.linear_unary(tape, "div", weights)
        ones = Tensor((1, 1, *weights.shape[2:]), self.dtype, None)
        weights = e.add(tape, e.mul(tape, weights, ones), tape.empty(ones.shape, self.dtype, "attention mask"))
        if mask is not None:
            weights = e.add(tape, weights, mask)
        weights = softmax(tape, weights, in_float32=False)
        weights = e.dropout(tape, weights, self.attention_dropout)
        return attention.weighted(tape, weights, v)
