"""Llama and its close relatives: Mistral (sliding window), Qwen2 (biases), Qwen3 (query and key norms).

transformers 5.23 models/{llama,mistral,qwen2,qwen3}/modeling_*.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import Config, number, probability
from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.norm import rms_norm
from vramlint.memory.ops.rotary import Rotary, rotary, rotate
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder

QUERY_KEY_NORMS = frozenset({"qwen3", "qwen3_moe"})
"""Models that normalise every head's queries and keys."""
QKV_BIASES = frozenset({"qwen2", "qwen2_moe"})
"""Models with biases on queries, keys and values unless their config says otherwise."""
ROTARY_TABLES_UNTIL = (4, 41)
"""Before this version of transformers every layer kept cos and sin of all positions in the model's dtype."""


class FeedForward(Protocol):
    """What stands behind attention: one gated MLP, or a choice of them."""

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        """Map [B, S, H] to [B, S, H]."""


@dataclass(slots=True)
class GatedMlp:
    """LlamaMLP."""

    gate: Weights
    up: Weights
    down: Weights
    activation: str = "silu"

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        """`down(activation(gate(x)) * up(x))`."""
        gated = e.mul(tape, activation(tape, self.activation, linear(tape, x, self.gate)), linear(tape, x, self.up))
        return linear(tape, gated, self.down)


@dataclass(slots=True)
class Layer:
    """Weights of one decoder layer."""

    input_norm: Parameter
    q: Weights
    k: Weights
    v: Weights
    o: Weights
    q_norm: Parameter | None
    k_norm: Parameter | None
    post_norm: Parameter
    mlp: FeedForward


class Llama(CausalLM):
    """LlamaForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
        ("llama", "mistral", "qwen2", "qwen3"), ("q_proj", "v_proj")
    )
    widens_logits: ClassVar[bool] = True

    def __init__(self, build: Builder, config: Config) -> None:
        self.hidden = number(config, "hidden_size")
        self.heads = number(config, "num_attention_heads")
        self.kv_heads = number(config, "num_key_value_heads", default=self.heads)
        self.head_size = number(config, "head_dim", default=self.hidden // self.heads)
        self.intermediate = number(config, "intermediate_size")
        self.count = number(config, "num_hidden_layers")
        self.activation = str(config.get("hidden_activation") or config.get("hidden_act") or "silu")
        self.attention_dropout = probability(config, "attention_dropout")
        self.model_type = str(config.get("model_type", "llama"))
        window = config.get("sliding_window")
        used = config.get("use_sliding_window", True) if self.model_type != "llama" else False
        self.window = window if isinstance(window, int) and used else None
        vocabulary = number(config, "vocab_size")
        build.buffer(4 * self.head_size // 2)
        build.buffer(4 * self.head_size // 2)
        self.embedding = build.parameter("model.embed_tokens.weight", (vocabulary, self.hidden))
        self.layers = []
        limit = number(config, "max_position_embeddings", default=2048)
        for position in build.layers(self.count):
            if build.transformers < ROTARY_TABLES_UNTIL:
                build.buffer(build.width * limit * self.head_size)
                build.buffer(build.width * limit * self.head_size)
            self.layers.append(self._layer(build, config, f"model.layers.{position}"))
        self.norm = build.norm("model.norm.weight", self.hidden)
        tied = bool(config.get("tie_word_embeddings", False))
        self.head = build.tied(self.embedding) if tied else build.linear("lm_head", self.hidden, vocabulary, head=True)

    def _layer(self, build: Builder, config: Config, name: str) -> Layer:
        bias = bool(config.get("attention_bias", config.get("qkv_bias", self.model_type in QKV_BIASES)))
        output_bias = bias and self.model_type not in QKV_BIASES
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        normed = self.model_type in QUERY_KEY_NORMS
        return Layer(
            q=build.linear(f"{name}.self_attn.q_proj", self.hidden, queries, bias=bias),
            k=build.linear(f"{name}.self_attn.k_proj", self.hidden, keys, bias=bias),
            v=build.linear(f"{name}.self_attn.v_proj", self.hidden, keys, bias=bias),
            o=build.linear(f"{name}.self_attn.o_proj", queries, self.hidden, bias=output_bias),
            q_norm=build.norm(f"{name}.self_attn.q_norm.weight", self.head_size) if normed else None,
            k_norm=build.norm(f"{name}.self_attn.k_norm.weight", self.head_size) if normed else None,
            mlp=self._mlp(build, config, f"{name}.mlp"),
            input_norm=build.norm(f"{name}.input_layernorm.weight", self.hidden),
            post_norm=build.norm(f"{name}.post_attention_layernorm.weight", self.hidden),
        )

    def _mlp(self, build: Builder, config: Config, name: str) -> FeedForward:
        bias = bool(config.get("mlp_bias", False))
        return GatedMlp(
            gate=build.linear(f"{name}.gate_proj", self.hidden, self.intermediate, bias=bias),
            up=build.linear(f"{name}.up_proj", self.hidden, self.intermediate, bias=bias),
            down=build.linear(f"{name}.down_proj", self.intermediate, self.hidden, bias=bias),
            activation=self.activation,
        )

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """LlamaModel.forward."""
        mask = regime.mask(tape, embedded, self.window)
        position = rotary(tape, embedded, self.head_size)

        def layer(hidden: Tensor, index: int) -> Tensor:
            weights = self.layers[index]
            return regime.layer(tape, lambda x: self._forward(tape, regime, weights, x, position, mask), hidden)

        hidden = tape.repeat(self.count, layer, embedded)
        return self.normalise(tape, hidden, self.norm)

    def _forward(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, position: Rotary, mask: Tensor | None
    ) -> Tensor:
        residual = hidden
        hidden = self.normalise(tape, hidden, w.input_norm)
        hidden = self._attention(tape, regime, w, hidden, position, mask)
        hidden = e.add(tape, residual, hidden)
        residual = hidden
        hidden = self.normalise(tape, hidden, w.post_norm)
        hidden = self.feed_forward(tape, w, hidden)
        return e.add(tape, residual, hidden)

    def _attention(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, position: Rotary, mask: Tensor | None
    ) -> Tensor:
        q = self._projected(tape, hidden, w.q, w.q_norm, self.heads)
        k = self._projected(tape, hidden, w.k, w.k_norm, self.kv_heads)
        v = self._projected(tape, hidden, w.v, None, self.kv_heads)
        q, k = rotate(tape, q, position), rotate(tape, k, position)
        return linear(tape, regime.attend(tape, q, k, v, mask, self.attention_dropout), w.o)

    def _projected(self, tape: Tape, hidden: Tensor, w: Weights, norm: Parameter | None, heads: int) -> Tensor:
        out = linear(tape, hidden, w)
        if norm is not None:
            width = out.shape[-1]
            by_head = out.as_shape((*out.shape[:-1], heads, self.head_size))
            out = self.normalise(tape, by_head, norm).as_shape((*hidden.shape[:-1], width))
        return attention.split_heads(tape, out, heads)

    def normalise(self, tape: Tape, x: Tensor, weight: Parameter) -> Tensor:
        """LlamaRMSNorm."""
        return rms_norm(tape, x, weight)

    def feed_forward(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        """The layer's MLP."""
        return w.mlp(tape, x)
