"""Phi-3: llama with fused projections (transformers 5.23 models/phi3/modeling_phi3.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct

from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import Config, number, ratio
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.norm import rms_norm
from vramlint.memory.ops.rotary import Rotary, rotary, rotate
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder


class Layer(Struct):
    """Weights of one decoder layer."""

    input_norm: Parameter
    qkv: Weights
    o: Weights
    post_norm: Parameter
    gate_up: Weights
    down: Weights


class Phi3(CausalLM):
    """Phi3ForCausalLM."""

    # peft 0.21 has no default for phi3: LoraConfig without target_modules raises
    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    widens_logits: ClassVar[bool] = True

    def __init__(self, build: Builder, config: Config) -> None:
        self.hidden = number(config, "hidden_size")
        self.heads = number(config, "num_attention_heads")
        self.kv_heads = number(config, "num_key_value_heads", default=self.heads)
        self.head_size = number(config, "head_dim", default=self.hidden // self.heads)
        self.count = number(config, "num_hidden_layers")
        window = config.get("sliding_window")
        self.window = window if isinstance(window, int) else None
        self.rotated = int(self.head_size * ratio(config, "partial_rotary_factor", default=1.0))
        build.buffer(4 * self.rotated // 2)
        build.buffer(4 * self.rotated // 2)
        vocabulary = number(config, "vocab_size")
        intermediate = number(config, "intermediate_size")
        self.embedding = build.parameter("model.embed_tokens.weight", (vocabulary, self.hidden))
        self.layers = []
        for position in build.layers(self.count):
            self.layers.append(self._layer(build, intermediate, f"model.layers.{position}"))
        self.norm = build.norm("model.norm.weight", self.hidden)
        self.head = self.build_head(build, config, "lm_head", self.hidden, vocabulary, ties=False)

    def _layer(self, build: Builder, intermediate: int, name: str) -> Layer:
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        return Layer(
            o=build.linear(f"{name}.self_attn.o_proj", queries, self.hidden),
            qkv=build.linear(f"{name}.self_attn.qkv_proj", self.hidden, queries + 2 * keys),
            gate_up=build.linear(f"{name}.mlp.gate_up_proj", self.hidden, 2 * intermediate),
            down=build.linear(f"{name}.mlp.down_proj", intermediate, self.hidden),
            input_norm=build.norm(f"{name}.input_layernorm.weight", self.hidden),
            post_norm=build.norm(f"{name}.post_attention_layernorm.weight", self.hidden),
        )

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """Phi3Model.forward."""
        order = tape.empty((1, embedded.shape[1]), "int64", "position ids")
        mask = regime.mask(tape, embedded, self.window)
        position = rotary(tape, embedded, self.rotated)

        def layer(hidden: Tensor, index: int) -> Tensor:
            weights = self.layers[index]
            return regime.layer(
                tape, lambda x: self._forward(tape, regime, weights, x, position, mask), hidden, arguments=order
            )

        hidden = tape.course.repeat(self.count, layer, [embedded])
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
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        qkv = linear(tape, hidden, w.qkv)
        q = attention.split_heads(tape, shaping.slice_last(tape, qkv, queries), self.heads)
        k = attention.split_heads(tape, shaping.slice_last(tape, qkv, keys), self.kv_heads)
        v = attention.split_heads(tape, shaping.slice_last(tape, qkv, keys), self.kv_heads)
        q, k = self.rotate(tape, q, k, position)
        return linear(tape, regime.attend(tape, q, k, v, mask), w.o)

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """apply_rotary_pos_emb."""
        return self._rotate(tape, q, position), self._rotate(tape, k, position)

    def normalise(self, tape: Tape, x: Tensor, norm: Parameter) -> Tensor:
        """Phi3RMSNorm."""
        return rms_norm(tape, x, norm)

    def _rotate(self, tape: Tape, x: Tensor, position: Rotary) -> Tensor:
        """The rotated part is concatenated with the rest, which copies even when nothing rests."""
        rotated = shaping.slice_last(tape, x, self.rotated)
        rest = shaping.slice_last(tape, x, self.head_size - self.rotated)
        return shaping.concatenate_last(tape, rotate(tape, rotated, position), rest)

    def feed_forward(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        """Phi3MLP."""
        up = linear(tape, x, w.gate_up)
        gate, up = shaping.split_last(tape, up, (up.shape[-1] // 2, up.shape[-1] // 2))
        up = e.mul(tape, up, e.unary(tape, "silu", gate))
        return linear(tape, up, w.down)
