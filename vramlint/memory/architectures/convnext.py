"""ConvNeXt: stages of depthwise convolutions and pointwise linear layers (transformers 5.23 models/convnext)."""

from __future__ import annotations

from msgspec import Struct, field

from vramlint.memory.architectures.family import Config, LayerNorm, numbers, probability, ratio
from vramlint.memory.architectures.vision import ImageClassifier, Patches, drop_path
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.convolution import Convolution
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.pooling import mean
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder

KERNEL = 7


class Layer(Struct):
    """Weights of one layer."""

    depthwise: Convolution
    norm: LayerNorm
    up: Weights
    down: Weights
    scale: Parameter | None
    drop_path: float


class Stage(Struct):
    """Layers of one resolution, and what halves the one before it."""

    position: int
    grid: tuple[int, int]
    kinds: list[bool]
    """Per layer: whether it may be skipped."""
    last: bool
    norm: LayerNorm | None = None
    reduction: Convolution | None = None
    layers: list[Layer] = field(default_factory=list)


class ConvNextForImageClassification(ImageClassifier):
    """ConvNextForImageClassification."""

    def __init__(self, build: Builder, config: Config) -> None:
        if build.checkpointed:
            raise NotFollowedError("checkpointing, which ConvNeXt does not know,")
        sizes = numbers(config, "hidden_sizes", (96, 192, 384, 768))
        depths = numbers(config, "depths", (3, 3, 9, 3))
        self.scaled = ratio(config, "layer_scale_init_value", default=1e-6) > 0
        self.drop_path = probability(config, "drop_path_rate")
        self.activation = str(config.get("hidden_act", "gelu"))
        table = "convnext.embeddings"
        self.patches = Patches.of(build, config, f"{table}.patch_embeddings", sizes[0], 4)
        self.input_shape = self.patches.pixels
        self.input_dtype = self.patches.projection.weight.dtype  # it converts none: they have to come in that dtype
        self.embedding_norm = LayerNorm.of(build, f"{table}.layernorm", sizes[0])
        self.stages = []
        grid, before = self.patches.grid, sizes[0]
        for position, (size, depth) in enumerate(zip(sizes, depths, strict=True)):
            first = sum(depths[:position])
            kinds = [self.drop_path > 0 and first + at > 0 for at in range(depth)]
            name = f"convnext.encoder.stages.{position}"
            stage = Stage(position, grid, kinds, position == len(depths) - 1)
            if position:
                stage.grid = grid = (grid[0] // 2, grid[1] // 2)
                stage.norm = LayerNorm.of(build, f"{name}.downsampling_layer.0", before)
                stage.reduction = Convolution.of(build, f"{name}.downsampling_layer.1", (size, before, 2, 2))
            stage.layers = [
                self._layer(build, f"{name}.layers.{at}", size, self.drop_path * kinds[at])
                for at in build.layers(kinds, stack=position)
            ]
            self.stages.append(stage)
            before = size
        self.norm = LayerNorm.of(build, "convnext.layernorm", sizes[-1])
        self.classify(build, config, sizes[-1])

    def _layer(self, build: Builder, name: str, size: int, rate: float) -> Layer:
        return Layer(
            depthwise=Convolution.of(build, f"{name}.dwconv", (size, 1, KERNEL, KERNEL), grouped=True),
            norm=LayerNorm.of(build, f"{name}.layernorm", size),
            up=build.linear(f"{name}.pwconv1", size, 4 * size, bias=True),
            down=build.linear(f"{name}.pwconv2", 4 * size, size, bias=True),
            scale=build.parameter(f"{name}.layer_scale_parameter", (size,)) if self.scaled else None,
            drop_path=rate,
        )

    def pooled(self, tape: Tape, regime: Regime, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The normalised mean over all positions."""
        embedded = self._normed(tape, self.embedding_norm, self.patches.projection(tape, pixels, self.patches.count))
        hidden = embedded
        for stage in self.stages:
            hidden = self._stage(tape, stage, hidden)
        return self.norm(tape, mean(tape, hidden, hidden.shape[:2])), hidden

    def _stage(self, tape: Tape, stage: Stage, hidden: Tensor) -> Tensor:
        if stage.norm is not None and stage.reduction is not None:
            hidden = self._normed(tape, stage.norm, hidden)
            hidden = stage.reduction(tape, hidden, stage.grid[0] * stage.grid[1])

        def layer(x: Tensor, index: int) -> Tensor:
            return self._forward(tape, stage.layers[index], x, last=stage.last)

        return tape.course.repeat(stage.kinds, layer, [hidden], stack=stage.position)

    def _forward(self, tape: Tape, w: Layer, x: Tensor, *, last: bool) -> Tensor:
        """ConvNextLayer.forward. In the last stage gradients lie channels-first, as the mean's backward makes them."""
        residual = x
        x = w.depthwise(tape, x, x.shape[2])
        x = shaping.transposed(tape, x)
        x = w.norm(tape, x)
        x = linear(tape, x, w.up)
        x = activation(tape, self.activation, x)
        x = linear(tape, x, w.down)
        if last:
            x = shaping.part(tape, x, x.shape)
        if w.scale is not None:
            x = e.mul(tape, w.scale, x)
        x = shaping.transposed(tape, x)
        return e.add(tape, residual, drop_path(tape, x, w.drop_path))

    def _normed(self, tape: Tape, norm: LayerNorm, x: Tensor) -> Tensor:
        """ConvNextLayerNorm, channels first."""
        return shaping.transposed(tape, norm(tape, shaping.transposed(tape, x)))
