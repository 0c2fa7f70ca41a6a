"""Convolutions over a waveform, which speech encoders begin with (transformers 5.23 models/wav2vec2)."""

from __future__ import annotations

from msgspec import Struct

from vramlint.memory.architectures.family import Config, LayerNorm, numbers
from vramlint.memory.leaves import capture
from vramlint.memory.ops import shaping
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.convolution import Convolution
from vramlint.memory.ops.norm import group_norm
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)
WIDTHS = (512,) * len(KERNELS)


class FeatureLayer(Struct, frozen=True):
    """One convolution over the waveform."""

    convolution: Convolution
    norm: LayerNorm | None
    kernel: int
    stride: int

    def length(self, positions: int) -> int:
        """Positions that it leaves of `positions`."""
        return (positions - self.kernel) // self.stride + 1


class FeatureEncoder(Struct, frozen=True):
    """Wav2Vec2FeatureEncoder: every convolution is a checkpoint of its own."""

    layers: list[FeatureLayer]
    grouped: bool
    """Only the first layer is normalised, each of its features by itself."""
    activation: str
    frozen: bool
    """By freeze_feature_encoder(): then the waveform itself needs no gradient either."""

    @classmethod
    def of(cls, build: Builder, config: Config, name: str, *, frozen: bool) -> FeatureEncoder:
        """Build `name.conv_layers`."""
        widths = numbers(config, "conv_dim", WIDTHS)
        kernels, strides = numbers(config, "conv_kernel", KERNELS), numbers(config, "conv_stride", STRIDES)
        bias = bool(config.get("conv_bias", False))
        grouped = config.get("feat_extract_norm", "group") == "group"
        layers = []
        for position, (n_in, n_out, kernel, stride) in enumerate(
            zip((1, *widths[:-1]), widths, kernels, strides, strict=True)
        ):
            layer = f"{name}.conv_layers.{position}"
            convolution = Convolution.of(build, f"{layer}.conv", (n_out, n_in, kernel), bias=bias)
            normed = not grouped or position == 0
            norm = LayerNorm.of(build, f"{layer}.layer_norm", n_out) if normed else None
            layers.append(FeatureLayer(convolution, norm, kernel, stride))
        return cls(layers, grouped, str(config.get("feat_extract_activation", "gelu")), frozen)

    @property
    def dtype(self) -> str:
        """That of its weights, which waveforms have to come in: it converts none."""
        return self.layers[0].convolution.weight.dtype

    @property
    def width(self) -> int:
        """Features of a frame."""
        return self.layers[-1].convolution.weight.shape[0]

    def frames(self, samples: int) -> int:
        """Positions that the convolutions leave of a waveform."""
        for layer in self.layers:
            samples = layer.length(samples)
        return samples

    def __call__(self, tape: Tape, regime: Regime, waveforms: Tensor) -> Tensor:
        """From [B, samples] to [B, features, frames]."""
        batch, samples = waveforms.shape
        hidden = waveforms.as_shape((batch, 1, samples))
        if not self.frozen:
            capture(tape, hidden, [])  # made to require a gradient for the sake of checkpointing
        for layer in self.layers:
            hidden = self._run(tape, regime, layer, hidden)
        return hidden

    def _run(self, tape: Tape, regime: Regime, layer: FeatureLayer, hidden: Tensor) -> Tensor:
        def forward(x: Tensor) -> Tensor:
            x = layer.convolution(tape, x, layer.length(x.shape[2]))
            if layer.norm is not None and self.grouped:
                x = group_norm(tape, x, layer.norm.parameters(), x.shape[1])
            elif layer.norm is not None:
                x = shaping.transposed(tape, layer.norm(tape, shaping.transposed(tape, x)))
            return activation(tape, self.activation, x)

        return regime.layer(tape, forward, hidden)
