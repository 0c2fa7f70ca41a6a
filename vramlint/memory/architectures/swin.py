"""Swin: stages of windowed attention with shifted windows and merged patches (transformers 5.23 models/swin)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, field

from vramlint.memory.architectures.family import Config, LayerNorm, number, numbers, probability, ratio
from vramlint.memory.architectures.vision import LLAMA_NAMES_FROM, ImageClassifier, Patches, drop_path
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.pooling import mean
from vramlint.memory.ops.relative import window_bias
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.ops.windows import Windows
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder

OLD_NAMES = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
    "attention.self.",
)
NEW_NAMES = (
    "attention.q_proj",
    "attention.k_proj",
    "attention.v_proj",
    "attention.o_proj",
    "mlp.fc1",
    "mlp.fc2",
    "attention.relative_position_bias.",
)


class Layer(Struct):
    """Weights of one layer."""

    attention_norm: LayerNorm
    q: Weights
    k: Weights
    v: Weights
    o: Weights
    table: Parameter
    output_norm: LayerNorm
    up: Weights
    down: Weights
    shifted: bool
    drop_path: float


class Stage(Struct):
    """Layers of one resolution, and the patch merging behind them."""

    position: int
    heads: int
    windows: Windows
    kinds: list[tuple[bool, bool]]
    """Per layer: whether its windows are shifted, whether it may be skipped."""
    layers: list[Layer] = field(default_factory=list)
    merging: tuple[LayerNorm, Weights] | None = None


class SwinForImageClassification(ImageClassifier):
    """SwinForImageClassification."""

    def __init__(self, build: Builder, config: Config) -> None:
        self.new = build.transformers >= LLAMA_NAMES_FROM
        self.size = number(config, "embed_dim", default=96)
        depths = numbers(config, "depths", (2, 2, 6, 2))
        heads = numbers(config, "num_heads", (3, 6, 12, 24))
        self.window = number(config, "window_size", default=7)
        self.mlp_ratio = ratio(config, "mlp_ratio", default=4.0)
        self.bias = bool(config.get("qkv_bias", True))
        self.dropout = probability(config, "hidden_dropout_prob")
        self.attention_dropout = probability(config, "attention_probs_dropout_prob")
        self.drop_path = probability(config, "drop_path_rate", default=0.1)
        self.activation = str(config.get("hidden_act", "gelu"))
        table = "swin.embeddings"
        self.patches = Patches.of(build, config, f"{table}.patch_embeddings.projection", self.size, 4)
        self.input_shape = self.patches.pixels
        self.input_dtype = self.patches.projection.weight.dtype  # it converts none: they have to come in that dtype
        if any(side % kernel for side, kernel in zip(self.patches.image, self.patches.kernel, strict=True)):
            raise NotFollowedError("an image that is no multiple of its patches")
        self.positions: Parameter | None = None
        if config.get("use_absolute_embeddings", False):
            if not self.new:
                raise NotFollowedError("absolute positions before transformers 5, which fail")
            self.positions = build.parameter(f"{table}.position_embeddings", (1, self.patches.count, self.size))
        self.embedding_norm = LayerNorm.of(build, f"{table}.norm", self.size)
        self.stages = [self._stage(build, depths, heads, position) for position in range(len(depths))]
        width = self.stages[-1].windows.size
        self.norm = LayerNorm.of(build, "swin.layernorm", width)
        self.classify(build, config, width)

    def _stage(self, build: Builder, depths: Sequence[int], heads: Sequence[int], position: int) -> Stage:
        rows, columns = self.patches.grid
        for _ in range(position):
            rows, columns = -(-rows // 2), -(-columns // 2)
        if min(rows, columns) < self.window:
            raise NotFollowedError("a stage smaller than its window")
        first, shifts = sum(depths[:position]), min(rows, columns) > self.window
        kinds = [(shifts and at % 2 == 1, self.drop_path > 0 and first + at > 0) for at in range(depths[position])]
        size = self.size << position
        stage = Stage(position, heads[position], Windows((rows, columns), self.window, size), kinds)
        name = f"swin.encoder.layers.{position}"
        for at in build.layers(kinds, stack=position):
            stage.layers.append(self._layer(build, f"{name}.blocks.{at}", stage, *kinds[at]))
        if position < len(depths) - 1:
            reduction = build.linear(f"{name}.downsample.reduction", 4 * size, 2 * size)
            stage.merging = (LayerNorm.of(build, f"{name}.downsample.norm", 4 * size), reduction)
        return stage

    def _layer(self, build: Builder, name: str, stage: Stage, shifted: bool, drops: bool) -> Layer:
        size = stage.windows.size
        inner = int(self.mlp_ratio * size)
        q, k, v, o, up, down, bias = (f"{name}.{part}" for part in (NEW_NAMES if self.new else OLD_NAMES))
        build.buffer(8 * self.window**4)
        distances = (2 * self.window - 1) ** 2
        return Layer(
            attention_norm=LayerNorm.of(build, f"{name}.layernorm_before", size),
            q=build.linear(q, size, size, bias=self.bias),
            k=build.linear(k, size, size, bias=self.bias),
            v=build.linear(v, size, size, bias=self.bias),
            o=build.linear(o, size, size, bias=True),
            table=build.parameter(f"{bias}relative_position_bias_table", (distances, stage.heads), decay=False),
            output_norm=LayerNorm.of(build, f"{name}.layernorm_after", size),
            up=build.linear(up, size, inner, bias=True),
            down=build.linear(down, inner, size, bias=True),
            shifted=shifted,
            drop_path=self.drop_path * drops,
        )

    def pooled(self, tape: Tape, regime: Regime, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of the last stage's normalised states."""
        embedded = self._embed(tape, regime, pixels)
        hidden = embedded
        held: list[Tensor] = []
        for stage in self.stages:
            hidden = self._run_stage(tape, regime, stage, hidden, held)
        hidden = self.norm(tape, hidden)
        return mean(tape, hidden, (hidden.shape[0], hidden.shape[2])), hidden

    def _embed(self, tape: Tape, regime: Regime, pixels: Tensor) -> Tensor:
        hidden = self.embedding_norm(tape, self.patches(tape, regime, pixels))
        if self.positions is not None:
            hidden = e.add(tape, hidden, self.positions)
        return e.dropout(tape, hidden, self.dropout)

    def _run_stage(self, tape: Tape, regime: Regime, stage: Stage, hidden: Tensor, held: list[Tensor]) -> Tensor:
        """SwinStage, which is checkpointed as a whole; since transformers 5 its layers are so once more inside.

        What it returns besides, the encoder names in `held` until the next stage has run.
        """
        hidden, *others = regime.segment(tape, lambda x: self._stage_forward(tape, regime, stage, x), (hidden,))
        held[:] = others
        return hidden

    def _stage_forward(self, tape: Tape, regime: Regime, stage: Stage, hidden: Tensor) -> tuple[Tensor, ...]:
        held: list[Tensor] = []

        def layer(x: Tensor, index: int) -> Tensor:
            w = stage.layers[index]
            if not self.new:
                return self._forward_before_5(tape, stage, w, x)
            x, *weights = regime.segment(tape, lambda y: self._forward(tape, regime, stage, w, y), (x,))
            held[:] = weights
            return x

        hidden = tape.course.repeat(stage.kinds, layer, [hidden], stack=stage.position)
        before = hidden
        if stage.merging is not None:
            hidden = self._merge(tape, stage.windows, *stage.merging, before)
        reshaped = e.clone(tape, hidden) if self.new else before
        return (hidden, reshaped, *held)

    def _merge(self, tape: Tape, windows: Windows, norm: LayerNorm, reduction: Weights, x: Tensor) -> Tensor:
        """SwinPatchMerging.forward: four neighbours side by side."""
        batch, (rows, columns), size = x.shape[0], windows.grid, windows.size
        if rows % 2 or columns % 2:
            rows, columns = rows + rows % 2, columns + columns % 2
            x = shaping.reordered(tape, x, (batch, rows * columns, size))
        parts = [
            shaping.part(
                tape, shaping.part(tape, x, (batch, rows // 2, columns, size)), (batch, rows // 2, columns // 2, size)
            )
            for _ in range(4)
        ]
        x = shaping.concatenate(tape, parts, (batch, rows // 2 * (columns // 2), 4 * size))
        x = norm(tape, x)
        return linear(tape, x, reduction)

    # ------------------------------------------------------------------ one layer

    def _forward(self, tape: Tape, regime: Regime, stage: Stage, w: Layer, hidden: Tensor) -> tuple[Tensor, ...]:
        """SwinLayer.forward, which returns eager attention's weights as well."""
        windows = stage.windows
        shortcut = hidden
        hidden = w.attention_norm(tape, hidden)
        hidden = windows.pad(tape, hidden)
        parts = windows.partition(tape, windows.roll(tape, hidden, shifted=w.shifted))
        mask = windows.shift_mask(tape, hidden.dtype) if w.shifted else None
        attended = self._attention(tape, regime, stage, w, parts, mask)
        weights = list(tape.held)
        attended = e.dropout(tape, attended, self.dropout)
        back = windows.roll(tape, windows.reverse(tape, attended), shifted=w.shifted)
        back = windows.cut(tape, back)
        hidden = e.add(tape, shortcut, drop_path(tape, back, w.drop_path))
        residual = hidden
        hidden = w.output_norm(tape, hidden)
        hidden = self._mlp(tape, w, hidden)
        hidden = e.add(tape, e.dropout(tape, hidden, self.dropout), residual)
        return (hidden, *weights)

    def _forward_before_5(self, tape: Tape, stage: Stage, w: Layer, hidden: Tensor) -> Tensor:
        """SwinLayer.forward of transformers 4.57."""
        windows = stage.windows
        shortcut = hidden
        hidden = w.attention_norm(tape, hidden)
        hidden = windows.pad(tape, hidden)
        shifted = windows.roll(tape, hidden, shifted=w.shifted)
        parts = windows.partition(tape, shifted)
        mask = windows.shift_mask(tape, hidden.dtype) if w.shifted else None
        attended = self._attention_before_5(tape, stage, w, parts, mask)
        images = windows.reverse(tape, attended)
        back = windows.roll(tape, images, shifted=w.shifted)
        back = windows.cut(tape, back)
        hidden = e.add(tape, shortcut, drop_path(tape, back, w.drop_path))
        out = w.output_norm(tape, hidden)
        out = self._up(tape, w, out)
        return e.add(tape, hidden, self._down(tape, w, out))

    def _attention(
        self, tape: Tape, regime: Regime, stage: Stage, w: Layer, hidden: Tensor, mask: Tensor | None
    ) -> Tensor:
        q, k, v = (attention.split_heads(tape, linear(tape, hidden, part), stage.heads) for part in (w.q, w.k, w.v))
        bias = window_bias(tape, w.table, stage.windows.area)
        if mask is None:
            combined = bias
        else:
            windows, area, _ = mask.shape
            shape = (hidden.shape[0], 1, area, area)
            mask = mask.as_shape(shape) if shape[0] == windows else tape.empty(shape, mask.dtype, "expand")
            combined = e.add(tape, bias, mask)
        out = regime.attend(tape, q, k, v, combined, self.attention_dropout)
        return linear(tape, out, w.o)

    def _attention_before_5(self, tape: Tape, stage: Stage, w: Layer, hidden: Tensor, mask: Tensor | None) -> Tensor:
        context = self._self_attention(tape, stage, w, hidden, mask)
        return e.dropout(tape, linear(tape, context, w.o), self.attention_dropout)

    def _self_attention(self, tape: Tape, stage: Stage, w: Layer, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Eager attention, which nothing else replaces before transformers 5."""
        q, k, v = (attention.split_heads(tape, linear(tape, hidden, part), stage.heads) for part in (w.q, w.k, w.v))
        scores = attention.scores(tape, q, k)
        scores = e.linear_unary(tape, "div", scores)
        bias = window_bias(tape, w.table, stage.windows.area)
        scores = e.add(tape, scores, bias)
        if mask is not None:
            windows, area, _ = mask.shape
            shape = scores.shape
            scores = shaping.viewed(tape, scores, (shape[0] // windows, windows, *shape[1:]))
            scores = e.add(tape, scores, mask.as_shape((1, windows, 1, area, area)))
            scores = shaping.viewed(tape, scores, shape)
        weights = softmax(tape, scores, in_float32=False)
        weights = e.dropout(tape, weights, self.attention_dropout)
        return attention.merge_heads(tape, attention.weighted(tape, weights, v))

    def _mlp(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        x = linear(tape, x, w.up)
        x = activation(tape, self.activation, x)
        return linear(tape, x, w.down)

    def _up(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        x = linear(tape, x, w.up)
        return activation(tape, self.activation, x)

    def _down(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        x = linear(tape, x, w.down)
        return e.dropout(tape, x, self.dropout)
