"""Phi-1 and Phi-2: one norm feeds attention and MLP in parallel, partial rotary (transformers 5.23 models/phi)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct

from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import Config, LayerNorm, number, probability, ratio
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.rotary import Rotary, rotary, rotate
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class Layer(Struct):
    """Weights of one decoder layer."""

    q: Weights
    k: Weights
    v: Weights
    dense: Weights
    q_norm: LayerNorm | None
    k_norm: LayerNorm | None
    up: Weights
    down: Weights
    norm: LayerNorm


class Phi(CausalLM):
    """PhiForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"phi": ("q_proj", "v_proj", "fc1", "fc2")}
    widens_logits: ClassVar[bool] = True

    def __init__(self, build: Builder, config: Config) -> None:
        self.hidden = number(config, "hidden_size")
        self.heads = number(config, "num_attention_heads")
        self.kv_heads = number(config, "num_key_value_heads", default=self.heads)
        self.head_size = self.hidden // self.heads
        self.count = number(config, "num_hidden_layers")
        self.rotated = int(self.head_size * ratio(config, "partial_rotary_factor", default=0.5))
        self.activation = str(config.get("hidden_act", "gelu_new"))
        self.embedding_dropout = probability(config, "embd_pdrop")
        self.residual_dropout = probability(config, "resid_pdrop")
        self.attention_dropout = probability(config, "attention_dropout")
        build.buffer(4 * self.rotated // 2)
        build.buffer(4 * self.rotated // 2)
        vocabulary, inner = number(config, "vocab_size"), number(config, "intermediate_size")
        normed = bool(config.get("qk_layernorm", False))
        self.embedding = build.parameter("model.embed_tokens.weight", (vocabulary, self.hidden))
        self.layers = [
            self._layer(build, inner, f"model.layers.{position}", normed=normed)
            for position in build.layers(self.count)
        ]
        self.norm = LayerNorm.of(build, "model.final_layernorm", self.hidden)
        self.head = self.build_head(build, config, "lm_head", self.hidden, vocabulary, ties=False, bias=True)

    def _layer(self, build: Builder, inner: int, name: str, *, normed: bool) -> Layer:
        keys = self.kv_heads * self.head_size
        attn = f"{name}.self_attn"
        return Layer(
            q=build.linear(f"{attn}.q_proj", self.hidden, self.hidden, bias=True),
            k=build.linear(f"{attn}.k_proj", self.hidden, keys, bias=True),
            v=build.linear(f"{attn}.v_proj", self.hidden, keys, bias=True),
            dense=build.linear(f"{attn}.dense", self.hidden, self.hidden, bias=True),
            q_norm=LayerNorm.of(build, f"{attn}.q_layernorm", self.head_size) if normed else None,
            k_norm=LayerNorm.of(build, f"{attn}.k_layernorm", self.head_size) if normed else None,
            up=build.linear(f"{name}.mlp.fc1", self.hidden, inner, bias=True),
            down=build.linear(f"{name}.mlp.fc2", inner, self.hidden, bias=True),
            norm=LayerNorm.of(build, f"{name}.input_layernorm", self.hidden),
        )

    def entered(self, tape: Tape, embedded: Tensor) -> Tensor:
        """The embeddings behind their dropout, which takes their name."""
        return e.dropout(tape, embedded, self.embedding_dropout)

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """PhiModel.forward."""
        order = tape.empty((1, embedded.shape[1]), "int64", "position ids")
        mask = regime.mask(tape, embedded, None)
        position = rotary(tape, embedded, self.rotated)

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.layers[index]
            return regime.layer(
                tape, lambda y: self._forward(tape, regime, weights, y, position, mask), x, arguments=order
            )

        hidden = tape.course.repeat(self.count, layer, [embedded])
        return self.norm(tape, hidden)

    def _forward(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, position: Rotary, mask: Tensor | None
    ) -> Tensor:
        residual = hidden
        hidden = w.norm(tape, hidden)
        attended = self._attention(tape, regime, w, hidden, position, mask)
        attended = e.dropout(tape, attended, self.residual_dropout)
        fed = linear(tape, activation(tape, self.activation, linear(tape, hidden, w.up)), w.down)
        fed = e.dropout(tape, fed, self.residual_dropout)
        return e.add(tape, e.add(tape, attended, fed), residual)

    def _attention(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, position: Rotary, mask: Tensor | None
    ) -> Tensor:
        q = self._projected(tape, hidden, w.q, w.q_norm, self.heads)
        k = self._projected(tape, hidden, w.k, w.k_norm, self.kv_heads)
        v = self._projected(tape, hidden, w.v, None, self.kv_heads)
        q, k = self._rotate(tape, q, position), self._rotate(tape, k, position)
        return linear(tape, regime.attend(tape, q, k, v, mask, self.attention_dropout), w.dense)

    def _projected(self, tape: Tape, hidden: Tensor, w: Weights, norm: LayerNorm | None, heads: int) -> Tensor:
        out = attention.split_heads(tape, linear(tape, hidden, w), heads)
        return out if norm is None else norm(tape, out)

    def _rotate(self, tape: Tape, x: Tensor, position: Rotary) -> Tensor:
        rotated = shaping.slice_last(tape, x, self.rotated)
        rest = shaping.slice_last(tape, x, self.head_size - self.rotated)
        return shaping.concatenate_last(tape, rotate(tape, rotated, position), rest)
