"""DINOv2, plain and with registers: ViT with layer scales, drop paths and gated MLPs.

transformers 5.23 models/{dinov2,dinov2_with_registers}
"""

from __future__ import annotations

from typing import ClassVar

from vramlint.memory.architectures.family import Config, LayerNorm, number, probability
from vramlint.memory.architectures.vision import LLAMA_NAMES_FROM, drop_path
from vramlint.memory.architectures.vit import OLD_NAMES, Layer, ViTForImageClassification
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.pooling import mean
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder

GATED_MULTIPLE = 8
"""A gated MLP is two thirds as wide as a plain one, rounded up to multiples of this."""


class Dinov2ForImageClassification(ViTForImageClassification):
    """Dinov2ForImageClassification."""

    prefix: ClassVar[str] = "dinov2"
    patch: ClassVar[int] = 14
    keeps_pixels: ClassVar[bool] = False

    def __init__(self, build: Builder, config: Config) -> None:
        self.gated = bool(config.get("use_swiglu_ffn", False))
        self.drop_path = probability(config, "drop_path_rate")
        hidden = number(config, "hidden_size", default=768)
        super().__init__(build, {**config, "intermediate_size": int(hidden * number(config, "mlp_ratio", default=4))})
        self.widens = build.transformers < LLAMA_NAMES_FROM

    def classify(self, build: Builder, config: Config, width: int) -> None:
        """The class token and the mean of the patches, side by side."""
        super().classify(build, config, 2 * width)

    def _embeddings(self, build: Builder, config: Config, name: str) -> None:
        super()._embeddings(build, config, name)
        if config.get("use_mask_token", True):
            mask = build.parameter(f"{name}.mask_token", (1, self.hidden))
            mask.requires_grad = False  # classification masks no patch: it never gets a gradient

    def _stack(self, build: Builder, config: Config) -> None:
        stack = f"{self.prefix}.encoder.layer"
        self.layers = [self._layer(build, f"{stack}.{position}") for position in build.layers(self.count)]
        self.norm = LayerNorm.of(build, f"{self.prefix}.layernorm", self.hidden)

    def _layer(self, build: Builder, name: str) -> Layer:
        size = self.hidden
        new = build.transformers >= LLAMA_NAMES_FROM
        q, k, v = ("attention.q_proj", "attention.k_proj", "attention.v_proj") if new else OLD_NAMES
        o = "attention.o_proj" if new else "attention.output.dense"
        up, down, gate = self._feed_forward(build, f"{name}.mlp")
        return Layer(
            attention_norm=LayerNorm.of(build, f"{name}.norm1", size),
            q=build.linear(f"{name}.{q}", size, size, bias=self.bias),
            k=build.linear(f"{name}.{k}", size, size, bias=self.bias),
            v=build.linear(f"{name}.{v}", size, size, bias=self.bias),
            o=build.linear(f"{name}.{o}", size, size, bias=True),
            output_norm=LayerNorm.of(build, f"{name}.norm2", size),
            up=up,
            down=down,
            gate=gate,
            scales=(self._scale(build, f"{name}.layer_scale1"), self._scale(build, f"{name}.layer_scale2")),
        )

    def _scale(self, build: Builder, name: str) -> Parameter:
        return build.parameter(f"{name}.lambda1", (self.hidden,))

    def _feed_forward(self, build: Builder, name: str) -> tuple[Weights, Weights, Weights | None]:
        """Up, down and gate, which is a part of up before transformers 5."""
        size = self.hidden
        if not self.gated:
            up = build.linear(f"{name}.fc1", size, self.inner, bias=True)
            return up, build.linear(f"{name}.fc2", self.inner, size, bias=True), None
        inner = -(-int(self.inner * 2 / 3) // GATED_MULTIPLE) * GATED_MULTIPLE
        if build.transformers < LLAMA_NAMES_FROM:
            up = build.linear(f"{name}.weights_in", size, 2 * inner, bias=True)
            return up, build.linear(f"{name}.weights_out", inner, size, bias=True), None
        gate = build.linear(f"{name}.gate_proj", size, inner, bias=True)
        up = build.linear(f"{name}.up_proj", size, inner, bias=True)
        return up, build.linear(f"{name}.down_proj", inner, size, bias=True), gate

    def pooled(self, tape: Tape, regime: Regime, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The class token's state and the mean of the patches' states."""
        hidden = self.last_hidden_state(tape, regime, pixels)
        batch, _, size = hidden.shape
        first = shaping.part(tape, hidden, (batch, size))
        others = shaping.part(tape, hidden, (batch, self.patches.count, size))
        return shaping.concatenate_last(tape, first, mean(tape, others, (batch, size))), hidden

    def _forward(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor) -> Tensor:
        residual = hidden
        hidden = w.attention_norm(tape, hidden)
        hidden = self._attention(tape, regime, w, hidden)
        hidden = self._scaled(tape, w, 0, hidden)
        hidden = e.add(tape, drop_path(tape, hidden, self.drop_path), residual)
        residual = hidden
        hidden = w.output_norm(tape, hidden)
        hidden = self._mlp(tape, w, hidden)
        hidden = self._scaled(tape, w, 1, hidden)
        return e.add(tape, drop_path(tape, hidden, self.drop_path), residual)

    def _forward_before_5(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor) -> Tensor:
        normed = w.attention_norm(tape, hidden)
        attended = self._attention_before_5(tape, regime, w, normed)
        attended = self._scaled(tape, w, 0, attended)
        hidden = e.add(tape, drop_path(tape, attended, self.drop_path), hidden)
        out = w.output_norm(tape, hidden)
        out = self._mlp(tape, w, out)
        out = self._scaled(tape, w, 1, out)
        return e.add(tape, drop_path(tape, out, self.drop_path), hidden)

    def _scaled(self, tape: Tape, w: Layer, position: int, x: Tensor) -> Tensor:
        return x if w.scales is None else e.mul(tape, x, w.scales[position])

    def _mlp(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        if w.gate is not None:
            gated = e.mul(tape, e.unary(tape, "silu", linear(tape, x, w.gate)), linear(tape, x, w.up))
            return linear(tape, gated, w.down)
        if not self.gated:
            return super()._mlp(tape, w, x)
        x = linear(tape, x, w.up)
        gate, up = shaping.split_last(tape, x, (x.shape[-1] // 2,) * 2)
        x_gated = e.mul(tape, e.unary(tape, "silu", gate), up)
        return linear(tape, x_gated, w.down)


class Dinov2WithRegistersForImageClassification(Dinov2ForImageClassification):
    """Dinov2WithRegistersForImageClassification: more learned tokens, put in behind the class token's."""

    prefix: ClassVar[str] = "dinov2_with_registers"
    patch: ClassVar[int] = 16

    def _embeddings(self, build: Builder, config: Config, name: str) -> None:
        super()._embeddings(build, {**config, "use_mask_token": True}, name)
        count = number(config, "num_register_tokens", default=4)
        self.registers = build.parameter(f"{name}.register_tokens", (1, count, self.hidden))

    def _embed(self, tape: Tape, regime: Regime, pixels: Tensor) -> Tensor:
        hidden = self.patches(tape, regime, pixels)
        batch, size = pixels.shape[0], self.hidden
        hidden = shaping.concatenate(tape, (*self.extra, hidden), (batch, self.length, size))
        if self.positions is not None:
            hidden = e.add(tape, hidden, self.positions)
        first = shaping.part(tape, hidden, (batch, 1, size))
        others = shaping.part(tape, hidden, (batch, self.patches.count, size))
        length = self.length + self.registers.shape[1]
        hidden = shaping.concatenate(tape, (first, self.registers, others), (batch, length, size))
        return e.dropout(tape, hidden, self.dropout)
