"""Audio Spectrogram Transformer: ViT over overlapping patches of a spectrogram.

transformers 5.23 models/audio_spectrogram_transformer
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from vramlint.memory.architectures.family import Config, LayerNorm, label_count, number
from vramlint.memory.architectures.vision import Patches, pair
from vramlint.memory.architectures.vit import ViTForImageClassification
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.convolution import Convolution
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class ASTForAudioClassification(ViTForImageClassification):
    """ASTForAudioClassification."""

    prefix: ClassVar[str] = "audio_spectrogram_transformer"
    tokens: ClassVar[Sequence[str]] = ("cls_token", "distillation_token")
    keeps_pixels: ClassVar[bool] = False
    input_name: ClassVar[str] = "input_values"

    def build_patches(self, build: Builder, config: Config, name: str) -> Patches:
        """Patches of [time, frequency] that overlap."""
        height, width = pair(config, "patch_size", 16)
        projection = Convolution.of(build, name, (self.hidden, 1, height, width))
        self.input_dtype = projection.weight.dtype  # it converts none: spectrograms have to come in that dtype
        length, bins = number(config, "max_length", default=1024), number(config, "num_mel_bins", default=128)
        strides = number(config, "frequency_stride", default=10), number(config, "time_stride", default=10)
        grid = ((bins - height) // strides[0] + 1, (length - width) // strides[1] + 1)
        return Patches(projection, (length, bins), (height, width), grid)

    def classify(self, build: Builder, config: Config, width: int) -> None:
        """ASTMLPHead."""
        self.head_norm = LayerNorm.of(build, "classifier.layernorm", width)
        self.classifier = build.linear("classifier.dense", width, label_count(config), bias=True)

    def pooled(self, tape: Tape, regime: Regime, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of both tokens' states."""
        hidden = self.last_hidden_state(tape, regime, pixels)
        shape = (hidden.shape[0], self.hidden)
        first, second = shaping.part(tape, hidden, shape), shaping.part(tape, hidden, shape)
        mean = e.linear_unary(tape, "div", e.add(tape, first, second))
        return self.head_norm(tape, mean), hidden
