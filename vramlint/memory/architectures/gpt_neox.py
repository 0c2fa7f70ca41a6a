"""GPT-NeoX and Pythia: parallel residual, partial rotary, fused qkv (transformers 5.23 models/gpt_neox)."""

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

NAMED_HEAD_FROM = (5, 14)
"""Since then the head is called as in other models."""


class Layer(Struct):
    """Weights of one layer."""

    input_norm: LayerNorm
    qkv: Weights
    dense: Weights
    post_norm: LayerNorm
    up: Weights
    down: Weights


class GPTNeoX(CausalLM):
    """GPTNeoXForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"gpt_neox": ("query_key_value",)}
    widens_logits: ClassVar[bool] = False
    own_loss_until: tuple[int, ...] = (4, 49)

    def __init__(self, build: Builder, config: Config) -> None:
        self.hidden = number(config, "hidden_size")
        self.heads = number(config, "num_attention_heads")
        self.head_size = self.hidden // self.heads
        self.count = number(config, "num_hidden_layers")
        self.parallel = bool(config.get("use_parallel_residual", True))
        self.activation = str(config.get("hidden_act", "gelu"))
        self.rotated = int(self.head_size * ratio(config, "rotary_pct", "partial_rotary_factor", default=0.25))
        self.attention_dropout = probability(config, "attention_dropout")
        self.hidden_dropout = probability(config, "hidden_dropout")
        self.bias = bool(config.get("attention_bias", True))
        vocabulary, intermediate = number(config, "vocab_size"), number(config, "intermediate_size")
        build.buffer(4 * self.rotated // 2)
        build.buffer(4 * self.rotated // 2)
        self.embedding = build.parameter("gpt_neox.embed_in.weight", (vocabulary, self.hidden))
        self.layers = [
            self._layer(build, intermediate, f"gpt_neox.layers.{position}") for position in build.layers(self.count)
        ]
        self.norm = LayerNorm.of(build, "gpt_neox.final_layer_norm", self.hidden)
        head = "lm_head" if build.transformers >= NAMED_HEAD_FROM else "embed_out"
        self.head = self.build_head(build, config, head, self.hidden, vocabulary, ties=False)

    def _layer(self, build: Builder, intermediate: int, name: str) -> Layer:
        return Layer(
            input_norm=LayerNorm.of(build, f"{name}.input_layernorm", self.hidden),
            qkv=build.linear(f"{name}.attention.query_key_value", self.hidden, 3 * self.hidden, bias=self.bias),
            dense=build.linear(f"{name}.attention.dense", self.hidden, self.hidden, bias=self.bias),
            post_norm=LayerNorm.of(build, f"{name}.post_attention_layernorm", self.hidden),
            up=build.linear(f"{name}.mlp.dense_h_to_4h", self.hidden, intermediate, bias=True),
            down=build.linear(f"{name}.mlp.dense_4h_to_h", intermediate, self.hidden, bias=True),
        )

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """GPTNeoXModel.forward."""
        order = tape.empty((1, embedded.shape[1]), "int64", "position ids")
        mask = regime.mask(tape, embedded, None)
        entering = [e.dropout(tape, embedded, self.hidden_dropout)]  # handed over: no name here keeps it
        position = rotary(tape, entering[0], self.rotated)

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.layers[index]
            return regime.layer(
                tape, lambda y: self._forward(tape, regime, weights, y, position, mask), x, arguments=order
            )

        hidden = tape.course.repeat(self.count, layer, entering)
        return self.norm(tape, hidden)

    def _forward(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, position: Rotary, mask: Tensor | None
    ) -> Tensor:
        attended = self._attention(tape, regime, w, w.input_norm(tape, hidden), position, mask)
        attended = e.dropout(tape, attended, self.hidden_dropout)
        if self.parallel:
            fed = e.dropout(tape, self._mlp(tape, w, w.post_norm(tape, hidden)), self.hidden_dropout)
            return e.add(tape, e.add(tape, fed, attended), hidden)
        attended = e.add(tape, attended, hidden)
        fed = e.dropout(tape, self._mlp(tape, w, w.post_norm(tape, attended)), self.hidden_dropout)
        return e.add(tape, fed, attended)

    def _mlp(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        return linear(tape, activation(tape, self.activation, linear(tape, x, w.up)), w.down)

    def _attention(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, position: Rotary, mask: Tensor | None
    ) -> Tensor:
        qkv = attention.split_heads(tape, linear(tape, hidden, w.qkv), self.heads)
        q, k, v = shaping.split_last(tape, qkv, (self.head_size,) * 3)
        q, k = self._rotate(tape, q, position), self._rotate(tape, k, position)
        return linear(tape, regime.attend(tape, q, k, v, mask, self.attention_dropout), w.dense)

    def _rotate(self, tape: Tape, x: Tensor, position: Rotary) -> Tensor:
        rotated = shaping.slice_last(tape, x, self.rotated)
        rest = shaping.slice_last(tape, x, self.head_size - self.rotated)
        return shaping.concatenate_last(tape, rotate(tape, rotated, position), rest)
