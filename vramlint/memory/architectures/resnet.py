"""ResNet: stages of convolutions with batch norms (transformers 5.23 models/resnet)."""

from __future__ import annotations

from msgspec import Struct, field

from vramlint.memory.architectures.family import Config, LayerNorm, label_count, number, numbers
from vramlint.memory.architectures.vision import ImageClassifier, pair
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.convolution import Convolution, max_pool
from vramlint.memory.ops.norm import batch_norm
from vramlint.memory.ops.pooling import mean
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class ConvLayer(Struct):
    """ResNetConvLayer: convolution and batch norm over a grid that it leaves `rows` by `columns`."""

    convolution: Convolution
    norm: LayerNorm
    grid: tuple[int, int]

    @classmethod
    def of(cls, build: Builder, name: str, n_in: int, n_out: int, kernel: int, grid: tuple[int, int]) -> ConvLayer:
        """Build `name.convolution` and `name.normalization`, whose running statistics are buffers."""
        convolution = Convolution.of(build, f"{name}.convolution", (n_out, n_in, kernel, kernel), bias=False)
        for size in (build.width * n_out, build.width * n_out, 8):
            build.buffer(size)
        return cls(convolution, LayerNorm.of(build, f"{name}.normalization", n_out), grid)

    def __call__(self, tape: Tape, x: Tensor, act: str | None) -> Tensor:
        """Convolve, normalise, activate."""
        x = self.convolution(tape, x, self.grid[0] * self.grid[1])
        x = batch_norm(tape, x, self.norm.parameters())
        return x if act is None else activation(tape, act, x)


class Layer(Struct):
    """Weights of one residual layer."""

    convolutions: list[ConvLayer]
    shortcut: ConvLayer | None


class Stage(Struct):
    """Layers of one resolution; the first one changes it."""

    position: int
    kinds: list[bool]
    layers: list[Layer] = field(default_factory=list)


class ResNetForImageClassification(ImageClassifier):
    """ResNetForImageClassification. Its config names no image size: 224, as its processors crop."""

    def __init__(self, build: Builder, config: Config) -> None:
        if build.checkpointed:
            raise NotFollowedError("checkpointing, which ResNet does not know,")
        sizes = numbers(config, "hidden_sizes", (256, 512, 1024, 2048))
        depths = numbers(config, "depths", (3, 4, 6, 3))
        stem = number(config, "embedding_size", default=64)
        channels = number(config, "num_channels", default=3)
        self.bottleneck = config.get("layer_type", "bottleneck") == "bottleneck"
        self.early = bool(config.get("downsample_in_bottleneck", False))
        self.activation = str(config.get("hidden_act", "relu"))
        image = pair(config, "image_size", 224)
        self.input_shape = (channels, *image)
        grid = _halved(image)
        self.stem = ConvLayer.of(build, "resnet.embedder.embedder", channels, stem, 7, grid)
        self.input_dtype = self.stem.convolution.weight.dtype  # it converts none: they have to come in that dtype
        self.pooled_grid = grid = _halved(grid)
        self.stages = []
        before = stem
        for position, (size, depth) in enumerate(zip(sizes, depths, strict=True)):
            halves = position > 0 or bool(config.get("downsample_in_first_stage", False))
            stage = Stage(position, [at == 0 for at in range(depth)])
            name = f"resnet.encoder.stages.{position}.layers"
            for at in build.layers(stage.kinds, stack=position):
                n_in, stride = (before, 1 + halves) if at == 0 else (size, 1)
                stage.layers.append(self._layer(build, f"{name}.{at}", n_in, size, grid, stride))
                grid = _halved(grid) if stride > 1 else grid
            self.stages.append(stage)
            before = size
        self.classifier = build.linear("classifier.1", sizes[-1], label_count(config), bias=True)

    def _layer(self, build: Builder, name: str, n_in: int, n_out: int, grid: tuple[int, int], stride: int) -> Layer:
        small = _halved(grid) if stride > 1 else grid
        if self.bottleneck:
            inner = n_out // 4
            shapes = [
                (n_in, inner, 1, small if self.early else grid),
                (inner, inner, 3, small),
                (inner, n_out, 1, small),
            ]
        else:
            shapes = [(n_in, n_out, 3, small), (n_out, n_out, 3, small)]
        shortcut = None
        if n_in != n_out or stride > 1:
            shortcut = ConvLayer.of(build, f"{name}.shortcut", n_in, n_out, 1, small)
        return Layer([ConvLayer.of(build, f"{name}.layer.{at}", *shape) for at, shape in enumerate(shapes)], shortcut)

    def pooled(self, tape: Tape, regime: Regime, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The mean over all positions."""
        embedded = self.stem(tape, pixels, self.activation)
        embedded = max_pool(tape, embedded, self.pooled_grid[0] * self.pooled_grid[1])
        hidden = embedded
        for stage in self.stages:
            hidden = self._stage(tape, stage, hidden)
        return mean(tape, hidden, hidden.shape[:2]), hidden

    def _stage(self, tape: Tape, stage: Stage, hidden: Tensor) -> Tensor:
        def layer(x: Tensor, index: int) -> Tensor:
            return self._forward(tape, stage.layers[index], x)

        return tape.course.repeat(stage.kinds, layer, [hidden], stack=stage.position)

    def _forward(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        residual = x
        for convolution in w.convolutions[:-1]:
            x = convolution(tape, x, self.activation)
        x = w.convolutions[-1](tape, x, None)
        if w.shortcut is not None:
            residual = w.shortcut(tape, residual, None)
        x = e.add_in_place(tape, x, residual)
        return activation(tape, self.activation, x)


def _halved(grid: tuple[int, int]) -> tuple[int, int]:
    """A padded convolution or pooling with a stride of two."""
    return -(-grid[0] // 2), -(-grid[1] // 2)
