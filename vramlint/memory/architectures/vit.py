"""ViT and DeiT: patches by a convolution, pre-norm encoder, classification head.

transformers 5.23 models/{vit,deit}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from msgspec import Struct

from vramlint.memory.architectures.family import Config, LayerNorm, number, probability
from vramlint.memory.architectures.vision import LLAMA_NAMES_FROM, ImageClassifier, Patches
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder

OLD_NAMES = ("attention.attention.query", "attention.attention.key", "attention.attention.value")
OLD_OTHERS = ("attention.output.dense", "intermediate.dense", "output.dense")


class Layer(Struct):
    """Weights of one layer; the optional ones are those of ViT's descendants."""

    attention_norm: LayerNorm
    q: Weights
    k: Weights
    v: Weights
    o: Weights
    output_norm: LayerNorm
    up: Weights
    down: Weights
    gate: Weights | None = None
    scales: tuple[Parameter, Parameter] | None = None
    """Layer scales behind attention and MLP."""
    table: Parameter | None = None
    """Relative position biases by distance."""
    drop_path: float = 0.0


class ViTForImageClassification(ImageClassifier):
    """ViTForImageClassification."""

    prefix: ClassVar[str] = "vit"
    tokens: ClassVar[Sequence[str]] = ("cls_token",)
    """Learned tokens before the patches, in their order."""
    patch: ClassVar[int] = 16
    """The configuration class's own patch size."""
    key_bias: ClassVar[bool] = True
    keeps_pixels: ClassVar[bool] = True
    absolute_positions: bool = True
    positions: Parameter | None

    def __init__(self, build: Builder, config: Config) -> None:
        if config.get("head_dim") is not None:
            raise NotFollowedError("a head size of its own")
        self.hidden = number(config, "hidden_size", default=768)
        self.heads = number(config, "num_attention_heads", default=12)
        self.inner = number(config, "intermediate_size", default=3072)
        self.count = number(config, "num_hidden_layers", default=12)
        self.activation = str(config.get("hidden_act", "gelu"))
        self.dropout = probability(config, "hidden_dropout_prob")
        self.attention_dropout = probability(config, "attention_probs_dropout_prob")
        self.bias = bool(config.get("qkv_bias", True))
        self.widens = True
        self._embeddings(build, config, f"{self.prefix}.embeddings")
        self._stack(build, config)
        self.classify(build, config, self.hidden)

    def _embeddings(self, build: Builder, config: Config, name: str) -> None:
        self.extra = [build.parameter(f"{name}.{token}", (1, 1, self.hidden)) for token in self.tokens]
        self.patches = self.build_patches(build, config, f"{name}.patch_embeddings.projection")
        self.input_shape = self.patches.pixels
        self.length = self.patches.count + len(self.extra)
        self.positions = None
        if self.absolute_positions:
            self.positions = build.parameter(f"{name}.position_embeddings", (1, self.length, self.hidden))

    def build_patches(self, build: Builder, config: Config, name: str) -> Patches:
        """What makes patches of the input."""
        return Patches.of(build, config, name, self.hidden, self.patch)

    def _stack(self, build: Builder, config: Config) -> None:
        stack = f"{self.prefix}.layers" if build.transformers >= LLAMA_NAMES_FROM else f"{self.prefix}.encoder.layer"
        self.layers = [self._layer(build, f"{stack}.{position}") for position in build.layers(self.count)]
        self.norm = LayerNorm.of(build, f"{self.prefix}.layernorm", self.hidden)

    def _layer(self, build: Builder, name: str) -> Layer:
        size = self.hidden
        new = build.transformers >= LLAMA_NAMES_FROM
        q, k, v = ("attention.q_proj", "attention.k_proj", "attention.v_proj") if new else OLD_NAMES
        o, up, down = ("attention.o_proj", "mlp.fc1", "mlp.fc2") if new else OLD_OTHERS
        return Layer(
            q=build.linear(f"{name}.{q}", size, size, bias=self.bias),
            k=build.linear(f"{name}.{k}", size, size, bias=self.bias and self.key_bias),
            v=build.linear(f"{name}.{v}", size, size, bias=self.bias),
            o=build.linear(f"{name}.{o}", size, size, bias=True),
            attention_norm=LayerNorm.of(build, f"{name}.layernorm_before", size),
            up=build.linear(f"{name}.{up}", size, self.inner, bias=True),
            down=build.linear(f"{name}.{down}", self.inner, size, bias=True),
            output_norm=LayerNorm.of(build, f"{name}.layernorm_after", size),
        )

    def pooled(self, tape: Tape, regime: Regime, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The class token's state."""
        hidden = self.last_hidden_state(tape, regime, pixels)
        return shaping.part(tape, hidden, (hidden.shape[0], self.hidden)), hidden

    def last_hidden_state(self, tape: Tape, regime: Regime, pixels: Tensor) -> Tensor:
        """ViTModel.forward, which converts the pixels and keeps them; its descendants leave it to the patches."""
        if self.keeps_pixels:
            pixels = tape.to(pixels, self.patches.projection.weight.dtype)
        hidden = self._embed(tape, regime, pixels)
        hidden = self._encode(tape, regime, hidden)
        return self.norm(tape, hidden)

    def _embed(self, tape: Tape, regime: Regime, pixels: Tensor) -> Tensor:
        hidden = self.patches(tape, regime, pixels)
        hidden = shaping.concatenate(tape, (*self.extra, hidden), (pixels.shape[0], self.length, self.hidden))
        if self.positions is not None:
            hidden = e.add(tape, hidden, self.positions)
        return e.dropout(tape, hidden, self.dropout)

    def _encode(self, tape: Tape, regime: Regime, hidden: Tensor) -> Tensor:
        forward = self._forward if regime.transformers >= LLAMA_NAMES_FROM else self._forward_before_5

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.layers[index]
            return regime.layer(tape, lambda y: forward(tape, regime, weights, y), x)

        return tape.course.repeat(self.count, layer, [hidden])

    def _forward(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor) -> Tensor:
        residual = hidden
        hidden = w.attention_norm(tape, hidden)
        hidden = self._attention(tape, regime, w, hidden)
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = e.add(tape, hidden, residual)
        residual = hidden
        hidden = w.output_norm(tape, hidden)
        hidden = self._mlp(tape, w, hidden)
        hidden = e.dropout(tape, hidden, self.dropout)
        return e.add(tape, hidden, residual)

    def _attention(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (attention.split_heads(tape, linear(tape, hidden, part), self.heads) for part in (w.q, w.k, w.v))
        out = regime.attend(tape, q, k, v, mask, self.attention_dropout, widens=self.widens)
        return linear(tape, out, w.o)

    def _mlp(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        x = linear(tape, x, w.up)
        x = activation(tape, self.activation, x)
        return linear(tape, x, w.down)

    def _forward_before_5(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor) -> Tensor:
        """ViTLayer.forward of transformers 4.57, which names every step's result."""
        normed = w.attention_norm(tape, hidden)
        attended = self._attention_before_5(tape, regime, w, normed)
        hidden = e.add(tape, attended, hidden)
        out = w.output_norm(tape, hidden)
        out = self._up(tape, w, out)
        return self._down(tape, w, out, hidden)

    def _attention_before_5(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor) -> Tensor:
        out = self._self_attention(tape, regime, w, hidden)
        out = e.dropout(tape, linear(tape, out, w.o), self.dropout)
        tape.held.clear()  # the attention weights go with the module that names them, not with the layer
        return out

    def _self_attention(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor) -> Tensor:
        k, v, q = (attention.split_heads(tape, linear(tape, hidden, part), self.heads) for part in (w.k, w.v, w.q))
        return regime.attend(tape, q, k, v, None, self.attention_dropout, widens=self.widens)

    def _up(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        x = linear(tape, x, w.up)
        return activation(tape, self.activation, x)

    def _down(self, tape: Tape, w: Layer, x: Tensor, residual: Tensor) -> Tensor:
        x = linear(tape, x, w.down)
        x = e.dropout(tape, x, self.dropout)
        return e.add(tape, x, residual)


class DeiTForImageClassification(ViTForImageClassification):
    """DeiTForImageClassification: a second token before the patches, whose state no head reads."""

    prefix: ClassVar[str] = "deit"
    tokens: ClassVar[Sequence[str]] = ("cls_token", "distillation_token")
