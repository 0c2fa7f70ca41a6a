"""What the image encoders share: patches of pixels, and a classification head's inputs and loss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec import Struct

from vramlint.job import Batch
from vramlint.memory.architectures.family import Config, Network, Outputs, label_count, number
from vramlint.memory.leaves import capture
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.convolution import Convolution
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.softmax import cross_entropy
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Shape, Tensor
from vramlint.memory.weights import Builder

LLAMA_NAMES_FROM = (5, 0)
"""Since then the attention's linear layers are called as llama's are, and layers name their residual."""


def pair(config: Config, key: str, default: int) -> tuple[int, int]:
    """Height and width, which a config gives as one number or as two."""
    value = config.get(key, default)
    if isinstance(value, Sequence) and len(value) == 2 and all(isinstance(side, int) for side in value):
        return value[0], value[1]
    side = number(config, key, default=default)
    return side, side


class Patches(Struct, frozen=True):
    """…PatchEmbeddings: a convolution whose stride is its kernel."""

    projection: Convolution
    image: tuple[int, int]
    kernel: tuple[int, int]
    grid: tuple[int, int]

    @classmethod
    def of(cls, build: Builder, config: Config, name: str, hidden: int, patch: int, *, bias: bool = True) -> Patches:
        """Build `name`; `patch` is the configuration class's own default."""
        height, width = pair(config, "image_size", 224)
        rows, columns = pair(config, "patch_size", patch)
        shape = (hidden, number(config, "num_channels", default=3), rows, columns)
        return cls(
            Convolution.of(build, name, shape, bias=bias),
            (height, width),
            (rows, columns),
            (height // rows, width // columns),
        )

    @property
    def count(self) -> int:
        """Patches of an image."""
        return self.grid[0] * self.grid[1]

    @property
    def pixels(self) -> Shape:
        """Shape of one image; a single channel has no dimension of its own."""
        channels = self.projection.weight.shape[1]
        return self.image if channels == 1 else (channels, *self.image)

    def __call__(self, tape: Tape, regime: Regime, pixels: Tensor) -> Tensor:
        """From [B, C, height, width] to [B, patches, H]."""
        pixels = tape.to(pixels, self.projection.weight.dtype)
        patches = shaping.transposed(tape, self.projection(tape, pixels, self.count))
        if regime.inputs_require_grad and not patches.requires_grad:
            capture(tape, patches, [])
        return patches


class ImageClassifier(Network):
    """An image encoder below a linear layer: …ForImageClassification."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    input_name: ClassVar[str] = "pixel_values"
    input_shape: Shape
    """Shape of one image."""
    input_dtype: str = "float32"

    def classify(self, build: Builder, config: Config, width: int) -> None:
        """Build the head, which `all-linear` adapts too: PEFT knows it for no output layer."""
        self.classifier = build.linear("classifier", width, label_count(config), bias=True)

    def inputs(self, batch: Batch) -> Mapping[str, tuple[Shape, str]]:
        """Images and one label for each."""
        count = batch.micro_batch_size
        return {self.input_name: ((count, *self.input_shape), self.input_dtype), "labels": ((count,), "int64")}

    @abstractmethod
    def pooled(self, tape: Tape, regime: Regime, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The head's input [B, width], and what the model's output object refers to besides."""

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """One state of each image through the head."""
        pooled, held = self.pooled(tape, regime, batch[self.input_name])
        logits = linear(tape, pooled, self.classifier)
        loss = cross_entropy(tape, logits, batch["labels"])
        del held
        return Outputs(loss, [logits])


def drop_path(tape: Tape, x: Tensor, probability: float) -> Tensor:
    """Stochastic depth in training: `x.div(keep) * random` with one random number for each image."""
    if probability <= 0 or not tape.training:
        return x
    random = tape.empty((x.shape[0], *(1,) * (len(x.shape) - 1)), x.dtype, "drop path")
    return e.mul(tape, e.linear_unary(tape, "div", x), random)
