"""BEiT: ViT with relative position biases, layer scales and drop paths (transformers 5.23 models/beit)."""

from __future__ import annotations

from typing import ClassVar

from msgspec.structs import replace

from vramlint.memory.architectures.family import Config, LayerNorm, probability, ratio
from vramlint.memory.architectures.vision import LLAMA_NAMES_FROM, drop_path
from vramlint.memory.architectures.vit import Layer, ViTForImageClassification
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.pooling import mean
from vramlint.memory.ops.relative import CLASS_DISTANCES, resized_window_bias
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder


class BeitForImageClassification(ViTForImageClassification):
    """BeitForImageClassification."""

    prefix: ClassVar[str] = "beit"
    key_bias: ClassVar[bool] = False
    keeps_pixels: ClassVar[bool] = False

    def __init__(self, build: Builder, config: Config) -> None:
        self.own_tables = bool(config.get("use_relative_position_bias", False))
        self.drop_path = probability(config, "drop_path_rate", default=0.1)
        self.scaled = ratio(config, "layer_scale_init_value", default=0.1) > 0
        self.mean_pooling = bool(config.get("use_mean_pooling", True))
        self.absolute_positions = bool(config.get("use_absolute_position_embeddings", False))
        self.shared: Parameter | None = None
        super().__init__(build, {**config, "qkv_bias": True})

    def _embeddings(self, build: Builder, config: Config, name: str) -> None:
        super()._embeddings(build, config, name)
        self.input_dtype = self.patches.projection.weight.dtype  # it converts none: they have to come in that dtype
        if config.get("use_mask_token", False):
            mask = build.parameter(f"{name}.mask_token", (1, 1, self.hidden))
            mask.requires_grad = False  # classification masks no patch: it never gets a gradient

    def _stack(self, build: Builder, config: Config) -> None:
        new = build.transformers >= LLAMA_NAMES_FROM
        if config.get("use_shared_relative_position_bias", False):
            if build.reentrant and new:
                raise NotFollowedError("a reentrant checkpoint of layers that share a relative position bias")
            name = "beit.shared_position_bias" if new else "beit.encoder.relative_position_bias"
            self.shared = self._table(build, name)
        stack = "beit.layers" if new else "beit.encoder.layer"
        self.kinds = [self.drop_path > 0 and position > 0 for position in range(self.count)]
        self.layers = [
            replace(self._layer(build, f"{stack}.{position}"), drop_path=self.drop_path * self.kinds[position])
            for position in build.layers(self.kinds)
        ]
        self.norm = LayerNorm.of(build, f"beit.{'pooler.' * self.mean_pooling}layernorm", self.hidden)

    def _layer(self, build: Builder, name: str) -> Layer:
        inner = "" if build.transformers >= LLAMA_NAMES_FROM else "attention.attention."
        return replace(
            super()._layer(build, name),
            scales=(self._scale(build, f"{name}.lambda_1"), self._scale(build, f"{name}.lambda_2"))
            if self.scaled
            else None,
            table=self._table(build, f"{name}.{inner}relative_position_bias") if self.own_tables else None,
        )

    def _scale(self, build: Builder, name: str) -> Parameter:
        return build.parameter(name, (self.hidden,))

    def _table(self, build: Builder, name: str) -> Parameter:
        rows, columns = self.patches.grid
        distances = (2 * rows - 1) * (2 * columns - 1) + CLASS_DISTANCES
        return build.parameter(f"{name}.relative_position_bias_table", (distances, self.heads), decay=False)

    def pooled(self, tape: Tape, regime: Regime, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """BeitPooler: the normalised mean of the patches' states, or the class token's normalised state."""
        hidden = self._encode(tape, regime, self._embed(tape, regime, pixels))
        batch, size = hidden.shape[0], self.hidden
        if not self.mean_pooling:
            hidden = self.norm(tape, hidden)
            return shaping.part(tape, hidden, (batch, size)), hidden
        patches = shaping.part(tape, hidden, (batch, self.patches.count, size))
        return self.norm(tape, mean(tape, patches, (batch, size))), hidden

    def _encode(self, tape: Tape, regime: Regime, hidden: Tensor) -> Tensor:
        new = regime.transformers >= LLAMA_NAMES_FROM
        forward = self._with_bias if new else self._with_bias_before_5
        shared = self._shared(tape) if new else None

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.layers[index]
            bias = shared if new else self._shared(tape)
            return regime.layer(tape, lambda y: forward(tape, regime, weights, y, bias), x)

        return tape.course.repeat(self.kinds, layer, [hidden])

    def _shared(self, tape: Tape) -> Tensor | None:
        return None if self.shared is None else resized_window_bias(tape, self.shared, self.patches.grid)

    def _with_bias(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """BeitLayer.forward."""
        if w.table is not None:
            own = resized_window_bias(tape, w.table, self.patches.grid)
            mask = own if mask is None else e.add(tape, own, mask)
        residual = hidden
        hidden = w.attention_norm(tape, hidden)
        hidden = self._attention(tape, regime, w, hidden, mask)
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = self._times_scale(tape, w, 0, hidden)
        hidden = e.add(tape, drop_path(tape, hidden, w.drop_path), residual)
        residual = hidden
        hidden = w.output_norm(tape, hidden)
        hidden = self._mlp(tape, w, hidden)
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = self._times_scale(tape, w, 1, hidden)
        return e.add(tape, drop_path(tape, hidden, w.drop_path), residual)

    def _times_scale(self, tape: Tape, w: Layer, position: int, x: Tensor) -> Tensor:
        """Without layer scales a product with 1.0."""
        return e.linear_unary(tape, "mul", x) if w.scales is None else e.mul(tape, w.scales[position], x)

    def _with_bias_before_5(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, bias: Tensor | None) -> Tensor:
        """BeitLayer.forward of transformers 4.57."""
        outputs = self._attended(tape, regime, w, w.attention_norm(tape, hidden), bias)
        attended = outputs if w.scales is None else e.mul(tape, w.scales[0], outputs)
        hidden = e.add(tape, drop_path(tape, attended, w.drop_path), hidden)
        out = w.output_norm(tape, hidden)
        out = self._up(tape, w, out)
        out = self._plain_down(tape, w, out)
        if w.scales is not None:
            out = e.mul(tape, w.scales[1], out)
        return e.add(tape, drop_path(tape, out, w.drop_path), hidden)

    def _plain_down(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        x = linear(tape, x, w.down)
        return e.dropout(tape, x, self.dropout)

    def _attended(self, tape: Tape, regime: Regime, w: Layer, normed: Tensor, bias: Tensor | None) -> Tensor:
        attend = self._eager_before_5 if regime.implementation == "eager" else self._sdpa_before_5
        context = attend(tape, regime, w, normed, bias)
        return e.dropout(tape, linear(tape, context, w.o), self.dropout)

    def _sdpa_before_5(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, bias: Tensor | None) -> Tensor:
        q, k, v = (attention.split_heads(tape, linear(tape, hidden, part), self.heads) for part in (w.q, w.k, w.v))
        mask = bias
        if w.table is not None:
            own = resized_window_bias(tape, w.table, self.patches.grid)
            mask = own if bias is None else e.add_in_place(tape, own, bias)
        return regime.attend(tape, q, k, v, mask, self.attention_dropout)

    def _eager_before_5(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, bias: Tensor | None) -> Tensor:
        q, k, v = (attention.split_heads(tape, linear(tape, hidden, part), self.heads) for part in (w.q, w.k, w.v))
        scores = attention.scores(tape, q, k)
        scores = e.linear_unary(tape, "div", scores)
        if w.table is not None:
            scores = e.add(tape, scores, resized_window_bias(tape, w.table, self.patches.grid))
        if bias is not None:
            scores = e.add(tape, scores, bias)
        weights = softmax(tape, scores, in_float32=False)
        weights = e.dropout(tape, weights, self.attention_dropout)
        return attention.merge_heads(tape, attention.weighted(tape, weights, v))
