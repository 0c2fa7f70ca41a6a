"""BLOOM: alibi, fused qkv interleaved by head, eager attention only (transformers 5.23 models/bloom)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import Config, LayerNorm, number, probability
from vramlint.memory.architectures.weight_outputs import Blocks
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import bloom_gelu
from vramlint.memory.ops.alibi import baddbmm
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

NUMBERED_UNTIL = (5, 0)
"""Before this version of transformers blocks got the numbers of the positions, for a cache."""


class Layer(Struct):
    """Weights of one block."""

    input_norm: LayerNorm
    qkv: Weights
    dense: Weights
    post_norm: LayerNorm
    up: Weights
    down: Weights


class Shared(Struct, frozen=True):
    """What all blocks use."""

    alibi: Tensor
    mask: Tensor | None


class Bloom(CausalLM):
    """BloomForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"bloom": ("query_key_value",)}
    widens_logits: ClassVar[bool] = False
    own_loss_until: tuple[int, ...] = (4, 48)

    def __init__(self, build: Builder, config: Config) -> None:
        self.hidden = number(config, "hidden_size", "n_embed")
        self.heads = number(config, "n_head", "num_attention_heads")
        self.head_size = self.hidden // self.heads
        self.count = number(config, "n_layer", "num_hidden_layers")
        self.attention_dropout = probability(config, "attention_dropout")
        self.hidden_dropout = probability(config, "hidden_dropout")
        self.residual_after_norm = bool(config.get("apply_residual_connection_post_layernorm", False))
        vocabulary = number(config, "vocab_size")
        self.embedding = build.parameter("transformer.word_embeddings.weight", (vocabulary, self.hidden))
        self.embedding_norm = LayerNorm.of(build, "transformer.word_embeddings_layernorm", self.hidden)
        self.layers = [self._layer(build, f"transformer.h.{position}") for position in build.layers(self.count)]
        self.norm = LayerNorm.of(build, "transformer.ln_f", self.hidden)
        self.head = self.build_head(build, config, "lm_head", self.hidden, vocabulary, ties=True)

    def _layer(self, build: Builder, name: str) -> Layer:
        size = self.hidden
        return Layer(
            input_norm=LayerNorm.of(build, f"{name}.input_layernorm", size),
            qkv=build.linear(f"{name}.self_attention.query_key_value", size, 3 * size, bias=True),
            dense=build.linear(f"{name}.self_attention.dense", size, size, bias=True),
            post_norm=LayerNorm.of(build, f"{name}.post_attention_layernorm", size),
            up=build.linear(f"{name}.mlp.dense_h_to_4h", size, 4 * size, bias=True),
            down=build.linear(f"{name}.mlp.dense_4h_to_h", 4 * size, size, bias=True),
        )

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """BloomModel.forward."""
        entering = [self.embedding_norm(tape, embedded)]  # handed over: no name here keeps it through the layers
        batch, length = embedded.shape[:2]
        alibi = tape.empty((batch * self.heads, 1, length), entering[0].dtype, "alibi")
        shared = Shared(alibi, replace(regime, implementation="eager").mask(tape, embedded, None))
        numbered = regime.transformers < NUMBERED_UNTIL
        blocks = Blocks(tape.empty((length,), "int64", "cache position") if numbered else None)

        def block(index: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
            return self._forward(tape, self.layers[index], hidden, shared)

        hidden = blocks(tape, regime, self.count, block, entering)
        return self.norm(tape, hidden)

    def _forward(self, tape: Tape, w: Layer, hidden: Tensor, shared: Shared) -> tuple[Tensor, Tensor]:
        normed = w.input_norm(tape, hidden)
        residual = normed if self.residual_after_norm else hidden
        attended, probabilities = self._attention(tape, w, normed, residual, shared)
        normed = w.post_norm(tape, attended)
        residual = normed if self.residual_after_norm else attended
        return self._mlp(tape, w, normed, residual), probabilities

    def _mlp(self, tape: Tape, w: Layer, hidden: Tensor, residual: Tensor) -> Tensor:
        hidden = bloom_gelu(tape, linear(tape, hidden, w.up))
        output = linear(tape, hidden, w.down)
        output = e.dropout(tape, output, self.hidden_dropout)
        return e.add(tape, residual, output)

    def _attention(
        self, tape: Tape, w: Layer, hidden: Tensor, residual: Tensor, shared: Shared
    ) -> tuple[Tensor, Tensor]:
        """BloomAttention.forward with its own names: each keeps its tensor until the end."""
        batch, length = hidden.shape[:2]
        fused_qkv = linear(tape, hidden, w.qkv)
        by_head = (batch, self.heads, length, self.head_size)
        query = attention.heads_first(tape, shaping.part(tape, fused_qkv, by_head))
        key = attention.heads_first(tape, shaping.part(tape, fused_qkv, by_head))
        value = attention.heads_first(tape, shaping.part(tape, fused_qkv, by_head))
        scores = baddbmm(tape, shared.alibi, query, key)
        weights = scores if shared.mask is None else e.add(tape, scores, shared.mask)
        probabilities = tape.to(softmax(tape, weights, in_float32=True), query.dtype)
        probabilities = e.dropout(tape, probabilities, self.attention_dropout)
        context = attention.weighted(tape, probabilities, value)
        context = attention.merge_heads(tape, context)
        output = linear(tape, context, w.dense)
        output = e.add(tape, residual, e.dropout(tape, output, self.hidden_dropout))
        return output, probabilities
