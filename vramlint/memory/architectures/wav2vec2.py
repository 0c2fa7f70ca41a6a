"""wav2vec 2.0 and HuBERT: convolutions over a waveform, an encoder (transformers 5.23 models/{wav2vec2,hubert})."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from vramlint.job import Batch
from vramlint.memory.architectures.bert import label_count
from vramlint.memory.architectures.family import Config, LayerNorm, Network, Outputs, number, numbers, probability
from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.convolution import Convolution, NormedConvolution
from vramlint.memory.ops.ctc import ctc_loss
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.masking import write_rows, write_zeros
from vramlint.memory.ops.norm import group_norm
from vramlint.memory.ops.softmax import cross_entropy, mark_logits, softmax
from vramlint.memory.regime import ENCODER_MASKS_FROM, Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Shape, Tensor
from vramlint.memory.weights import Builder, NotFollowedError

KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)
STATES_ALWAYS_FROM = (5, 0)
"""Since then a sequence classifier collects the states of all layers, asked for or not, the last one before its norm,
and returns none."""
FRAMES_PER_LABEL = 4
"""Without a target length: English speech has about 14 characters a second, the encoder makes 50 frames of it."""


@dataclass(frozen=True, slots=True)
class FeatureLayer:
    """One convolution over the waveform."""

    convolution: Convolution
    norm: LayerNorm | None
    kernel: int
    stride: int


@dataclass(slots=True)
class Layer:
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
        self.feature_activation = str(config.get("feat_extract_activation", "gelu"))
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
        self._features(build, config)
        self.mask_row: Parameter | None = None
        if probability(config, "mask_time_prob", default=0.05) > 0 or probability(config, "mask_feature_prob") > 0:
            self.mask_row = build.parameter(f"{self.prefix}.masked_spec_embed", (self.hidden,))
            if not self.time_masks:
                self.mask_row.requires_grad = False  # never used, so it never gets a gradient
        self._encoder(build, config)
        self._head(build, config)

    def _features(self, build: Builder, config: Config) -> None:
        name = f"{self.prefix}.feature_extractor"
        widths = numbers(config, "conv_dim", (512,) * len(KERNELS))
        shapes = zip(
            (1, *widths),
            widths,
            numbers(config, "conv_kernel", KERNELS),
            numbers(config, "conv_stride", STRIDES),
            strict=False,
        )
        bias = bool(config.get("conv_bias", False))
        self.grouped = config.get("feat_extract_norm", "group") == "group"
        self.feature_layers = []
        for position, (n_in, n_out, kernel, stride) in enumerate(shapes):
            layer = f"{name}.conv_layers.{position}"
            convolution = Convolution.of(build, f"{layer}.conv", (n_out, n_in, kernel), bias=bias)
            normed = not self.grouped or position == 0
            norm = LayerNorm.of(build, f"{layer}.layer_norm", n_out) if normed else None
            self.feature_layers.append(FeatureLayer(convolution, norm, kernel, stride))
        self.waveform_dtype = self.feature_layers[0].convolution.weight.dtype  # it converts none
        part = f"{self.prefix}.feature_projection"
        # freeze_feature_encoder() takes the waveform's gradient away; frozen with all others, the graph stays
        first = f"{name}.conv_layers.0.conv.weight"
        self.frozen_features = build.freezes(first) and not build.freezes(f"{part}.projection.weight")
        width = widths[-1]
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

    def frames(self, samples: int) -> int:
        """Positions that the convolutions leave of a waveform."""
        for layer in self.feature_layers:
            samples = (samples - layer.kernel) // layer.stride + 1
        return samples

    def inputs(self, batch: Batch) -> Mapping[str, tuple[Shape, str]]:
        """Waveforms; models whose features are normalised by group go without an attention mask."""
        waveforms = (batch.micro_batch_size, batch.sequence_length)
        named = {"input_values": (waveforms, self.waveform_dtype), "labels": (self.labels(batch), "int64")}
        if batch.attention_mask and not self.grouped:
            named["attention_mask"] = (waveforms, "int64")
        return named

    # ------------------------------------------------------------------ forward

    def last_hidden_state(
        self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor], collected: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """…Model.forward, and the features that its output names; states of all layers go to `collected`."""
        features = self._extract(tape, regime, batch["input_values"])
        features = e.transposed(tape, features)
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

    def _extract(self, tape: Tape, regime: Regime, waveforms: Tensor) -> Tensor:
        batch, samples = waveforms.shape
        hidden = waveforms.as_shape((batch, 1, samples))
        if not self.frozen_features:
            tape.capture(hidden, [])  # made to require a gradient for the sake of checkpointing

        for layer in self.feature_layers:
            hidden = self._feature_layer(tape, regime, layer, hidden)
        return hidden

    def _feature_layer(self, tape: Tape, regime: Regime, layer: FeatureLayer, hidden: Tensor) -> Tensor:
        length = (hidden.shape[2] - layer.kernel) // layer.stride + 1

        def forward(x: Tensor) -> Tensor:
            x = layer.convolution(tape, x, length)
            if layer.norm is not None and self.grouped:
                x = group_norm(tape, x, layer.norm.weight, layer.norm.bias, x.shape[1])
            elif layer.norm is not None:
                x = e.transposed(tape, layer.norm(tape, e.transposed(tape, x)))
            return activation(tape, self.feature_activation, x)

        return regime.layer(tape, forward, hidden)

    def _project(self, tape: Tape, features: Tensor) -> tuple[Tensor, Tensor]:
        normed = features if self.feature_norm is None else self.feature_norm(tape, features)
        return e.dropout(tape, linear(tape, normed, self.projection), self.feature_dropout), normed

    def _spec_augment(self, tape: Tape, hidden: Tensor) -> Tensor:
        """_mask_hidden_states: spans of positions are overwritten in place, then whole features."""
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
                tape.keep(x)
            weights = self.layers[index]
            return regime.layer(tape, lambda y: forward(tape, regime, weights, y, bias), x)

        hidden = tape.repeat(self.count, layer, handed_over.pop())
        before = hidden
        if self.stable:
            hidden = self.norm(tape, hidden)
        if collected is not None:
            last = before if regime.transformers >= STATES_ALWAYS_FROM else hidden
            collected.append(last)
            tape.keep(last)
        return hidden

    def _position(self, tape: Tape, hidden: Tensor) -> Tensor:
        batch, length, size = hidden.shape
        even = self.taps % 2 == 0
        x = self.positions(tape, e.transposed(tape, hidden), length + even)
        if even:
            x = e.part(tape, x, (batch, size, length))
        return e.transposed(tape, activation(tape, self.feature_activation, x))

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


class SpeechForCTC(SpeechEncoder):
    """Wav2Vec2ForCTC and HubertForCTC."""

    def _head(self, build: Builder, config: Config) -> None:
        self.classifier = build.linear("lm_head", self.hidden, number(config, "vocab_size", default=32), bias=True)

    def labels(self, batch: Batch) -> Shape:
        """Characters of every utterance."""
        length = batch.target_length or max(self.frames(batch.sequence_length) // FRAMES_PER_LABEL, 1)
        return (batch.micro_batch_size, length)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """Logits for every frame."""
        last, features = self.last_hidden_state(tape, regime, batch)
        hidden = e.dropout(tape, last, self.final_dropout)
        logits = linear(tape, hidden, self.classifier)
        mark_logits(tape, logits)
        ones = None if "attention_mask" in batch else tape.empty(batch["input_values"].shape, "int64", "ones")
        loss = ctc_loss(tape, logits, batch["labels"])
        del features, ones
        return Outputs(loss, [logits])


class SpeechForSequenceClassification(SpeechEncoder):
    """Wav2Vec2ForSequenceClassification and HubertForSequenceClassification."""

    def _head(self, build: Builder, config: Config) -> None:
        self.layer_weights: Parameter | None = None
        if config.get("use_weighted_layer_sum", False):
            self.layer_weights = build.parameter("layer_weights", (self.count + 1,))
            if self.stable and build.transformers >= STATES_ALWAYS_FROM:
                self.norm.weight.requires_grad = self.norm.bias.requires_grad = False  # behind the states: unused
        width = number(config, "classifier_proj_size", default=256)
        self.projector = build.linear("projector", self.hidden, width, bias=True)
        self.classifier = build.linear("classifier", width, label_count(config), bias=True)

    def labels(self, batch: Batch) -> Shape:
        """One for every utterance."""
        return (batch.micro_batch_size,)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The mean over time of the last states, or of a weighted sum of all layers' states."""
        new = regime.transformers >= STATES_ALWAYS_FROM
        states: list[Tensor] = []
        collects = new or self.layer_weights is not None
        last, features = self.last_hidden_state(tape, regime, batch, states if collects else None)
        hidden = last if self.layer_weights is None else self._weighted(tape, states, self.layer_weights)
        states.clear()
        hidden = linear(tape, hidden, self.projector)
        logits = linear(tape, self._mean(tape, hidden, "attention_mask" in batch), self.classifier)
        loss = cross_entropy(tape, logits, batch["labels"])
        del last, features
        kept = tape.taken_cache()
        if new:
            tape.drop(kept)
        return Outputs(loss, [logits], kept)

    def _weighted(self, tape: Tape, states: Sequence[Tensor], weights: Parameter) -> Tensor:
        batch, length, size = states[0].shape
        shape = (batch, self.count + 1, length, size)
        dtype = "float32" if any(state.dtype == "float32" for state in states) else states[0].dtype
        stacked = tape.apply("stack", states, shape, dtype, _stack_backward)
        normed = softmax(tape, weights, in_float32=False)
        product = e.mul(tape, stacked, e.viewed(tape, normed, (self.count + 1, 1, 1)))
        return e.total(tape, product, (batch, length, size))

    def _mean(self, tape: Tape, hidden: Tensor, masked: bool) -> Tensor:
        batch, _, width = hidden.shape
        if not masked:
            return e.mean(tape, hidden, (batch, width))
        expanded = tape.empty(hidden.shape, "bool", "expanded mask")
        outside = tape.empty(hidden.shape, "bool", "bitwise_not")
        hidden = write_zeros(tape, hidden, outside, into_view=self.projector.adapter is None)
        summed = e.total(tape, hidden, (batch, width))
        del expanded, outside
        return e.linear_unary(tape, "div", summed)


def _stack_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """Views of the gradient, converted for states of another dtype, each where its layer is repeated."""
    (gradient,) = gradients
    results: list[Tensor | None] = []
    for edge in node.edges:
        if gradient is None or edge is None:
            results.append(None)
        elif edge[3] == gradient.dtype or not isinstance(edge[0], Node):
            results.append(gradient.as_shape(edge[2]))
        else:
            with tape.in_unit(edge[0].unit):
                results.append(tape.empty(edge[2], edge[3], "to"))
    return results
