"""Swin: stages of windowed attention with shifted windows and merged patches (transformers 5.23 models/swin)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vramlint.memory.architectures.family import Config, LayerNorm, number, numbers, probability, ratio
from vramlint.memory.architectures.vision import LLAMA_NAMES_FROM, ImageClassifier, Patches, drop_path
from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.relative import window_bias
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder, NotFollowedError

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


@dataclass(slots=True)
class Layer:
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


@dataclass(slots=True)
class Stage:
    """Layers of one resolution, and the patch merging behind them."""

    position: int
    grid: tuple[int, int]
    size: int
    heads: int
    window: int
    kinds: list[tuple[bool, bool]]
    """Per layer: whether its windows are shifted, whether it may be skipped."""
    layers: list[Layer] = field(default_factory=list)
    merge_norm: LayerNorm | None = None
    reduction: Weights | None = None

    @property
    def padded(self) -> tuple[int, int]:
        """The grid in whole windows."""
        rows, columns = self.grid
        return -(-rows // self.window) * self.window, -(-columns // self.window) * self.window


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
        width = self.stages[-1].size
        self.norm = LayerNorm.of(build, "swin.layernorm", width)
        self.classify(build, config, width)

    def _stage(self, build: Builder, depths: Sequence[int], heads: Sequence[int], position: int) -> Stage:
        rows, columns = self.patches.grid
        for _ in range(position):
            rows, columns = -(-rows // 2), -(-columns // 2)
        window = min(self.window, rows, columns)
        if window < self.window:
            raise NotFollowedError("a stage smaller than its window")
        first = sum(depths[:position])
        shifts = min(rows, columns) > window
        kinds = [
            (shifts and number % 2 == 1, self.drop_path > 0 and first + number > 0)
            for number in range(depths[position])
        ]
        size = self.size << position
        stage = Stage(position, (rows, columns), size, heads[position], window, kinds)
        name = f"swin.encoder.layers.{position}"
        stage.layers = [
            self._layer(build, f"{name}.blocks.{number}", stage, *kinds[number])
            for number in build.layers(kinds, stack=position)
        ]
        if position < len(depths) - 1:
            stage.reduction = build.linear(f"{name}.downsample.reduction", 4 * size, 2 * size)
            stage.merge_norm = LayerNorm.of(build, f"{name}.downsample.norm", 4 * size)
        return stage

    def _layer(self, build: Builder, name: str, stage: Stage, shifted: bool, drops: bool) -> Layer:
        size, inner = stage.size, int(self.mlp_ratio * stage.size)
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
        return e.mean(tape, hidden, (hidden.shape[0], hidden.shape[2])), hidden

    def _embed(self, tape: Tape, regime: Regime, pixels: Tensor) -> Tensor:
        hidden = self.embedding_norm(tape, self.patches(tape, regime, pixels))
        if self.positions is not None:
            hidden = e.add(tape, hidden, self.positions)
        return e.dropout(tape, hidden, self.dropout)

    def _run_stage(self, tape: Tape, regime: Regime, stage: Stage, hidden: Tensor, held: list[Tensor]) -> Tensor:
        """SwinStage, which is checkpointed as a whole; since transformers 5 its layers are so once more inside.

        What it returns besides, the encoder names in `held` until the next stage has run.
        """
        others: list[Tensor] = []
        hidden = regime.layer(tape, lambda x: self._stage_forward(tape, regime, stage, x, others), hidden, others)
        held[:] = others
        others.clear()
        return hidden

    def _stage_forward(self, tape: Tape, regime: Regime, stage: Stage, hidden: Tensor, others: list[Tensor]) -> Tensor:
        held: list[Tensor] = []

        def layer(x: Tensor, index: int) -> Tensor:
            w = stage.layers[index]
            if not self.new:
                return self._forward_before_5(tape, stage, w, x)
            weights: list[Tensor] = []
            x = regime.layer(tape, lambda y: self._forward(tape, regime, stage, w, y, weights), x, weights)
            held[:] = weights
            weights.clear()
            return x

        hidden = tape.repeat(stage.kinds, layer, hidden, stack=stage.position)
        before = hidden
        if stage.reduction is not None:
            hidden = self._merge(tape, stage, before)
        reshaped = e.clone(tape, hidden) if self.new else before
        if not tape.replays:
            others[:] = (reshaped, *held)
        held.clear()
        return hidden

    def _merge(self, tape: Tape, stage: Stage, x: Tensor) -> Tensor:
        """SwinPatchMerging.forward: four neighbours side by side."""
        assert stage.reduction is not None and stage.merge_norm is not None  # noqa: S101  narrowing
        batch, (rows, columns), size = x.shape[0], stage.grid, stage.size
        if rows % 2 or columns % 2:
            rows, columns = rows + rows % 2, columns + columns % 2
            x = tape.apply("pad", (x,), (batch, rows * columns, size), x.dtype, attention.repeat_backward)
        parts = [
            e.part(tape, e.part(tape, x, (batch, rows // 2, columns, size)), (batch, rows // 2, columns // 2, size))
            for _ in range(4)
        ]
        x = e.concatenate(tape, parts, (batch, rows // 2 * (columns // 2), 4 * size))
        x = stage.merge_norm(tape, x)
        return linear(tape, x, stage.reduction)

    # ------------------------------------------------------------------ one layer

    def _forward(
        self, tape: Tape, regime: Regime, stage: Stage, w: Layer, hidden: Tensor, others: list[Tensor]
    ) -> Tensor:
        """SwinLayer.forward, which returns eager attention's weights as well."""
        shortcut = hidden
        hidden = w.attention_norm(tape, hidden)
        hidden = self._padded(tape, stage, hidden)
        windows = self._windows(tape, stage, self._rolled(tape, w, hidden))
        mask = self._shift_mask(tape, stage, hidden.dtype) if w.shifted else None
        attended = self._attention(tape, regime, stage, w, windows, mask)
        weights = list(tape.held)
        attended = e.dropout(tape, attended, self.dropout)
        back = self._rolled(tape, w, self._images(tape, stage, attended))
        back = self._cut(tape, stage, back)
        hidden = e.add(tape, shortcut, drop_path(tape, back, w.drop_path))
        residual = hidden
        hidden = w.output_norm(tape, hidden)
        hidden = self._mlp(tape, w, hidden)
        hidden = e.add(tape, e.dropout(tape, hidden, self.dropout), residual)
        if not tape.replays:
            others[:] = weights
        return hidden

    def _forward_before_5(self, tape: Tape, stage: Stage, w: Layer, hidden: Tensor) -> Tensor:
        """SwinLayer.forward of transformers 4.57."""
        shortcut = hidden
        hidden = w.attention_norm(tape, hidden)
        hidden = self._padded(tape, stage, hidden)
        shifted = self._rolled(tape, w, hidden)
        windows = self._windows(tape, stage, shifted)
        mask = self._shift_mask(tape, stage, hidden.dtype) if w.shifted else None
        attended = self._attention_before_5(tape, stage, w, windows, mask)
        reversed_ = self._images(tape, stage, attended)
        back = self._rolled(tape, w, reversed_)
        back = self._cut(tape, stage, back)
        hidden = e.add(tape, shortcut, drop_path(tape, back, w.drop_path))
        out = w.output_norm(tape, hidden)
        out = self._up(tape, w, out)
        return e.add(tape, hidden, self._down(tape, w, out))

    def _padded(self, tape: Tape, stage: Stage, x: Tensor) -> Tensor:
        """F.pad, which copies even where there is nothing to pad."""
        rows, columns = stage.padded
        shape = (x.shape[0], rows, columns, x.shape[2])
        return tape.apply("pad", (x,), shape, x.dtype, attention.repeat_backward)

    def _rolled(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        return e.linear_unary(tape, "roll", x) if w.shifted else x

    def _windows(self, tape: Tape, stage: Stage, x: Tensor) -> Tensor:
        """window_partition."""
        shape = (x.shape[0] * self._window_count(stage), stage.window**2, stage.size)
        return self._reordered(tape, stage, x, shape)

    def _images(self, tape: Tape, stage: Stage, x: Tensor) -> Tensor:
        """window_reverse."""
        batch = x.shape[0] // self._window_count(stage)
        return self._reordered(tape, stage, x, (batch, *stage.padded, stage.size))

    def _window_count(self, stage: Stage) -> int:
        rows, columns = stage.padded
        return rows // stage.window * (columns // stage.window)

    def _reordered(self, tape: Tape, stage: Stage, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Windows beside each other are copied apart, both ways; below each other they already lie so."""
        if stage.padded[1] == stage.window:
            return e.viewed(tape, x, shape)
        return e.reordered(tape, x, shape)

    def _cut(self, tape: Tape, stage: Stage, x: Tensor) -> Tensor:
        batch, size = x.shape[0], stage.size
        (rows, columns), (padded_rows, padded_columns) = stage.grid, stage.padded
        if rows != padded_rows:
            x = e.part(tape, x, (batch, rows, padded_columns, size))
        if columns != padded_columns:
            x = e.part(tape, x, (batch, rows, columns, size))
        if stage.grid != stage.padded:
            x = e.clone(tape, x)
        return e.viewed(tape, x, (batch, rows * columns, size))

    def _shift_mask(self, tape: Tape, stage: Stage, dtype: str) -> Tensor:
        """get_attn_mask: additive, [windows, window², window²]."""
        return tape.empty((self._window_count(stage), stage.window**2, stage.window**2), dtype, "shift mask")

    def _attention(
        self, tape: Tape, regime: Regime, stage: Stage, w: Layer, hidden: Tensor, mask: Tensor | None
    ) -> Tensor:
        q, k, v = (attention.split_heads(tape, linear(tape, hidden, part), stage.heads) for part in (w.q, w.k, w.v))
        bias = window_bias(tape, w.table, stage.window**2)
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
        bias = window_bias(tape, w.table, stage.window**2)
        scores = e.add(tape, scores, bias)
        if mask is not None:
            windows, area, _ = mask.shape
            shape = scores.shape
            scores = e.viewed(tape, scores, (shape[0] // windows, windows, *shape[1:]))
            scores = e.add(tape, scores, mask.as_shape((1, windows, 1, area, area)))
            scores = e.viewed(tape, scores, shape)
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
