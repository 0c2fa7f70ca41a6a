"""wav2vec 2.0 and HuBERT: convolutions over a waveform, an encoder (transformers 5.23 models/{wav2vec2,hubert})."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct

from vramlint.job import Batch
from vramlint.memory.architectures.family import Config, LayerNorm, Network, number, probability
from vramlint.memory.architectures.waveform import FeatureEncoder
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.convolution import NormedConvolution
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.masking import write_rows, write_zeros
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import ENCODER_MASKS_FROM, Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Shape, Tensor
from vramlint.memory.weights import Builder

STATES_ALWAYS_FROM = (5, 0)
"""Since then a sequence classifier collects the states of all layers, asked for or not, the last one before its norm,
and returns none."""


class Layer(Struct):
    """Weights of one encoder layer."""

    q: Weights
    k: Weights
    v: Weights
    o: Weights
    attention_norm: LayerNorm
    up: Weights
    down: Weights
    output_norm: LayerNorm
    adapter: tuple[LayerNorm, Weights, Weights] | None


class SpeechEncoder(Network):
    """Wav2Vec2Model or HubertModel below a head."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init__(self, build: Builder, config: Config) -> None:
        self.prefix = str(config.get("model_type", "wav2vec2"))
        self.hubert = self.prefix == "hubert"
        if config.get("add_adapter", False):
            raise NotFollowedError("an adapter of convolutions behind the encoder")
        if config.get("conv_pos_batch_norm", False):
            raise NotFollowedError("a batch norm in front of the positions")
        self.hidden = number(config, "hidden_size", default=768)
        self.heads = number(config, "num_attention_heads", default=12)
        self.inner = number(config, "intermediate_size", default=3072)
        self.count = number(config, "num_hidden_layers", default=12)
        self.activation = str(config.get("hidden_act", "gelu"))
        self.dropout = probability(config, "hidden_dropout", default=0.1)
        self.attention_dropout = probability(config, "attention_dropout", default=0.1)
        self.activation_dropout = probability(config, "activation_dropout", default=0.1)
        self.feature_dropout = probability(config, "feat_proj_dropout")
        self.final_dropout = probability(config, "final_dropout", default=0.1)
        self.stable = bool(config.get("do_stable_layer_norm", False))
        self.masks = bool(config.get("apply_spec_augment", True))
        self.time_masks = probability(config, "mask_time_prob", default=0.05) if self.masks else 0.0
        self.mask_length = number(config, "mask_time_length", default=10)
        self.least_masks = number(config, "mask_time_min_masks", default=2)
        self.feature_masks = probability(config, "mask_feature_prob") if self.masks else 0.0
        self._projection(build, config)
        self.mask_row: Parameter | None = None
        if probability(config, "mask_time_prob", default=0.05) > 0 or probability(config, "mask_feature_prob") > 0:
            self.mask_row = build.parameter(f"{self.prefix}.masked_spec_embed", (self.hidden,))
            if not self.time_masks:
                self.mask_row.requires_grad = False  # never used, so it never gets a gradient
        self._encoder(build, config)
        self._head(build, config)

    def _projection(self, build: Builder, config: Config) -> None:
        name, part = f"{self.prefix}.feature_extractor", f"{self.prefix}.feature_projection"
        # frozen with everything above it, nobody has called freeze_feature_encoder()
        first = f"{name}.conv_layers.0.conv.weight"
        frozen = build.freezes(first) and not build.freezes(f"{part}.projection.weight")
        self.features = FeatureEncoder.of(build, config, name, frozen=frozen)
        width = self.features.width
        self.feature_norm = None
        if not self.hubert or config.get("feat_proj_layer_norm", True):
            self.feature_norm = LayerNorm.of(build, f"{part}.layer_norm", width)
        self.projection = build.linear(f"{part}.projection", width, self.hidden, bias=True)

    def _encoder(self, build: Builder, config: Config) -> None:
        name = f"{self.prefix}.encoder"
        self.taps = number(config, "num_conv_pos_embeddings", default=128)
        groups = number(config, "num_conv_pos_embedding_groups", default=16)
        shape = (self.hidden, self.hidden // groups, self.taps)
        self.positions = NormedConvolution.of(build, f"{name}.pos_conv_embed.conv", shape)
        self.norm = LayerNorm.of(build, f"{name}.layer_norm", self.hidden)
        width = config.get("adapter_attn_dim")
        self.layers = [
            self._layer(build, f"{name}.layers.{position}", width if isinstance(width, int) and self.stable else 0)
            for position in build.layers(self.count)
        ]

    def _layer(self, build: Builder, name: str, adapter: int) -> Layer:
        size, attn, part = self.hidden, f"{name}.attention", f"{name}.feed_forward"
        return Layer(
            k=build.linear(f"{attn}.k_proj", size, size, bias=True),
            v=build.linear(f"{attn}.v_proj", size, size, bias=True),
            q=build.linear(f"{attn}.q_proj", size, size, bias=True),
            o=build.linear(f"{attn}.out_proj", size, size, bias=True),
            attention_norm=LayerNorm.of(build, f"{name}.layer_norm", size),
            up=build.linear(f"{part}.intermediate_dense", size, self.inner, bias=True),
            down=build.linear(f"{part}.output_dense", self.inner, size, bias=True),
            output_norm=LayerNorm.of(build, f"{name}.final_layer_norm", size),
            adapter=(
                LayerNorm.of(build, f"{name}.adapter_layer.norm", size),
                build.linear(f"{name}.adapter_layer.linear_1", size, adapter, bias=True),
                build.linear(f"{name}.adapter_layer.linear_2", adapter, size, bias=True),
            )
            if adapter
            else None,
        )

    @abstractmethod
    def _head(self, build: Builder, config: Config) -> None:
        """Build what stands above the encoder."""

    def inputs(self, batch: Batch) -> Mapping[str, tuple[Shape, str]]:
        """Waveforms; models whose features are normalised by group go without an attention mask."""
        waveforms = (batch.micro_batch_size, batch.sequence_length)
        named = {"input_values": (waveforms, self.features.dtype), "labels": (self.labels(batch), "int64")}
        if batch.attention_mask and not self.features.grouped:
            named["attention_mask"] = (waveforms, "int64")
        return named

    # ------------------------------------------------------------------ forward

    def last_hidden_state(
        self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor], collected: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """…Model.forward, and the features that its output names; states of all layers go to `collected`."""
        features = self.features(tape, regime, batch["input_values"])
        features = shaping.transposed(tape, features)
        mask = None
        if "attention_mask" in batch:
            mask = tape.empty(features.shape[:2], "bool", "feature mask")
        projected, normed = self._project(tape, features)
        if not self.hubert:
            features = normed
        masked = self._spec_augment(tape, projected)
        del projected, normed
        hidden = self._encode(tape, regime, masked, mask, collected)
        return hidden, None if self.hubert else features

    def _project(self, tape: Tape, features: Tensor) -> tuple[Tensor, Tensor]:
        normed = features if self.feature_norm is None else self.feature_norm(tape, features)
        return e.dropout(tape, linear(tape, normed, self.projection), self.feature_dropout), normed

    def _spec_augment(self, tape: Tape, hidden: Tensor) -> Tensor:
        """_mask_hidden_states, in training: spans of positions are overwritten in place, then whole features."""
        if not tape.training:
            return hidden
        batch, length, size = hidden.shape
        if self.time_masks and self.mask_row is not None:
            mask = tape.empty((batch, length), "bool", "time mask")
            row = tape.to(self.mask_row, hidden.dtype)
            rows = batch * self._masked(length)
            hidden = write_rows(tape, hidden, mask, row, rows, into_view=self._projects_into_view)
        if self.feature_masks:
            mask = tape.empty((batch, size), "bool", "feature mask").as_shape(hidden.shape)
            hidden = write_zeros(tape, hidden, mask, into_view=self._projects_into_view)
        return hidden

    def _masked(self, length: int) -> int:
        """Positions that spans cover on average, were they not to overlap."""
        spans = max(round(self.time_masks * length / self.mask_length), self.least_masks)
        return min(spans, length // self.mask_length) * self.mask_length

    @property
    def _projects_into_view(self) -> bool:
        return not self.feature_dropout and self.projection.adapter is None

    def _encode(
        self, tape: Tape, regime: Regime, hidden: Tensor, mask: Tensor | None, collected: list[Tensor] | None
    ) -> Tensor:
        expanded = bias = None
        if mask is not None:
            expanded = tape.empty(hidden.shape, "bool", "expanded mask")
            outside = tape.empty(hidden.shape, "bool", "bitwise_not")
            hidden = write_zeros(tape, hidden, outside, into_view=self._projects_into_view)
            del outside
            bias = self._bias(tape, regime, hidden)
        positions = self._position(tape, hidden)
        hidden = e.add(tape, hidden, positions)
        if not self.stable:
            hidden = self.norm(tape, hidden)
        hidden = e.dropout(tape, hidden, self.dropout)
        handed_over = [hidden]
        del hidden
        hidden = self._run_layers(tape, regime, handed_over, bias, collected)
        del expanded
        return hidden

    def _bias(self, tape: Tape, regime: Regime, hidden: Tensor) -> Tensor | None:
        if regime.transformers < ENCODER_MASKS_FROM and regime.implementation == "eager":
            batch, length, _ = hidden.shape
            return tape.empty((batch, 1, length, length), hidden.dtype, "attention mask")
        return regime.bidirectional_mask(tape, hidden)

    def _run_layers(
        self,
        tape: Tape,
        regime: Regime,
        handed_over: list[Tensor],
        bias: Tensor | None,
        collected: list[Tensor] | None,
    ) -> Tensor:
        """The stack over the one tensor in `handed_over`, which the encoder does not name any longer."""
        forward = self._stable_forward if self.stable else self._forward

        def layer(x: Tensor, index: int) -> Tensor:
            if collected is not None:
                collected.append(x)
                tape.lifetimes.keep(x)
            weights = self.layers[index]
            return regime.layer(tape, lambda y: forward(tape, regime, weights, y, bias), x)

        hidden = tape.course.repeat(self.count, layer, handed_over)
        before = hidden
        if self.stable:
            hidden = self.norm(tape, hidden)
        if collected is not None:
            last = before if regime.transformers >= STATES_ALWAYS_FROM else hidden
            collected.append(last)
            tape.lifetimes.keep(last)
        return hidden

    def _position(self, tape: Tape, hidden: Tensor) -> Tensor:
        batch, length, size = hidden.shape
        even = self.taps % 2 == 0
        x = self.positions(tape, shaping.transposed(tape, hidden), length + even)
        if even:
            x = shaping.part(tape, x, (batch, size, length))
        return shaping.transposed(tape, activation(tape, self.features.activation, x))

    def _forward(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, bias: Tensor | None) -> Tensor:
        residual = hidden
        hidden = self._attention(tape, regime, w, hidden, bias)
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = e.add(tape, residual, hidden)
        hidden = w.attention_norm(tape, hidden)
        hidden = e.add(tape, hidden, self._feed_forward(tape, w, hidden))
        return w.output_norm(tape, hidden)

    def _stable_forward(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, bias: Tensor | None) -> Tensor:
        residual = hidden
        hidden = w.attention_norm(tape, hidden)
        hidden = self._attention(tape, regime, w, hidden, bias)
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = e.add(tape, residual, hidden)
        normed = w.output_norm(tape, hidden)
        fed = self._feed_forward(tape, w, normed)
        del normed
        hidden = e.add(tape, hidden, fed)
        del fed
        if w.adapter is not None:
            norm, down, up = w.adapter
            x = linear(tape, norm(tape, hidden), down)
            x = e.unary_of_result(tape, "relu", x)
            x = linear(tape, x, up)
            hidden = e.add(tape, hidden, x)
        return hidden

    def _attention(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, bias: Tensor | None) -> Tensor:
        q, k, v = (attention.split_heads(tape, linear(tape, hidden, part), self.heads) for part in (w.q, w.k, w.v))
        return linear(tape, regime.attend(tape, q, k, v, bias, self.attention_dropout, widens=False), w.o)

    def _feed_forward(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        x = linear(tape, x, w.up)
        x = activation(tape, self.activation, x)
        x = e.dropout(tape, x, self.activation_dropout)
        x = linear(tape, x, w.down)
        return e.dropout(tape, x, self.dropout)
