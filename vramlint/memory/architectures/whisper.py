"""Whisper: convolutions over a spectrogram, a pre-norm encoder-decoder (transformers 5.23 models/whisper).

SpecAugment (`apply_spec_augment`) masks the spectrogram in place, before anything else is in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec.structs import replace

from vramlint.job import Batch
from vramlint.memory.architectures.family import Config, Outputs, label_count, number
from vramlint.memory.architectures.seq2seq import Attention, Seq2Seq
from vramlint.memory.leaves import capture
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.convolution import Convolution
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.selection import take_rows
from vramlint.memory.ops.softmax import cross_entropy, mark_logits
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Shape, Tensor
from vramlint.memory.weights import Builder

KERNEL = 3
POSITIONAL_FROM = (5, 0)
"""Since then the decoder's layers get the encoder's states where a reentrant checkpoint sees them; before, its backward
fails in the encoder's graph. Since then, too, adapters under checkpointing make the spectrogram's states require a
gradient."""
SHAPE: Config = {
    "d_model": 384,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 6,
    "encoder_ffn_dim": 1536,
    "decoder_ffn_dim": 1536,
    "vocab_size": 51865,
    "dropout": 0.0,
}


class WhisperEncoder(Seq2Seq):
    """The encoder over spectrograms, alone or with a decoder."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    key_bias: ClassVar[bool] = False
    pre_norm: ClassVar[bool] = True

    def __init__(self, build: Builder, config: Config) -> None:
        super().__init__(build, {**SHAPE, **config})
        self.bins = number(config, "num_mel_bins", default=80)
        self.source_length = number(config, "max_source_positions", default=1500)
        self.adapted = build.adapter is not None
        self.spectrum_hooked = self.adapted and build.transformers >= POSITIONAL_FROM

    def build_spectral_encoder(self, build: Builder, name: str) -> None:
        """Convolutions, sinusoids and layers of the encoder `name`."""
        self.conv1 = Convolution.of(build, f"{name}.conv1", (self.hidden, self.bins, KERNEL))
        self.conv2 = Convolution.of(build, f"{name}.conv2", (self.hidden, self.hidden, KERNEL))
        self.source_positions = build.parameter(f"{name}.embed_positions.weight", (self.source_length, self.hidden))
        self.source_positions.requires_grad = False  # sinusoids
        self.build_encoder(build, name)

    def spectra(self, batch: Batch) -> tuple[Shape, str]:
        """Shape and dtype of spectrograms of full length."""
        return (batch.micro_batch_size, self.bins, 2 * self.source_length), "float32"

    def encoded(self, tape: Tape, regime: Regime, features: Tensor) -> Tensor:
        """WhisperEncoder.forward."""
        regime = replace(regime, use_cache=False)
        states = self.conv1(tape, features, 2 * self.source_length)
        if regime.inputs_require_grad and self.spectrum_hooked and not states.requires_grad:
            capture(tape, states, [])
        states = e.unary(tape, "gelu", states)
        states = e.unary(tape, "gelu", self.conv2(tape, states, self.source_length))
        states = shaping.transposed(tape, states)
        states.heads_first = True  # and so are the hidden states of all layers
        order = tape.empty((self.source_length,), "int64", "positions")
        hidden = e.add(tape, states, embedding(tape, order, self.source_positions))
        embedded = [e.dropout(tape, hidden, self.dropout)]
        del hidden
        return self.encode(tape, regime, embedded, None)

    def queries(self, tape: Tape, hidden: Tensor, w: Attention) -> Tensor:
        """Scaled and copied heads-first."""
        return self._first(tape, e.linear_unary(tape, "mul", linear(tape, hidden, w.q)), w.heads)

    def projected(self, tape: Tape, x: Tensor, weights: Weights, heads: int) -> Tensor:
        """Copied heads-first."""
        return self._first(tape, linear(tape, x, weights), heads)

    def _first(self, tape: Tape, x: Tensor, heads: int) -> Tensor:
        out = e.clone(tape, attention.split_heads(tape, x, heads))
        out.heads_first = True
        return out


class Whisper(WhisperEncoder):
    """WhisperForConditionalGeneration."""

    def __init__(self, build: Builder, config: Config) -> None:
        super().__init__(build, config)
        if build.reentrant and build.transformers < POSITIONAL_FROM:
            raise NotFollowedError("a reentrant checkpoint of Whisper's decoder before transformers 5, which fails,")
        self.build_spectral_encoder(build, "model.encoder")
        part = "model.decoder"
        targets = number(config, "max_target_positions", default=448)
        self.embedding = build.parameter(f"{part}.embed_tokens.weight", (self.vocabulary, self.hidden))
        self.target_positions = build.parameter(f"{part}.embed_positions.weight", (targets, self.hidden))
        self.build_decoder(build, part)
        tied = config.get("tie_word_embeddings", True)
        self.head = (
            build.tied(self.embedding) if tied else build.linear("proj_out", self.hidden, self.vocabulary, head=True)
        )

    def inputs(self, batch: Batch) -> Mapping[str, tuple[Shape, str]]:
        """Spectrograms and the target tokens."""
        return {"input_features": self.spectra(batch), "labels": (self.labels(batch), "int64")}

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The decoder sees the labels shifted by one; the loss is taken in the dtype of the logits."""
        labels = batch["labels"]
        shifted = tape.empty(labels.shape, "int64", "decoder input ids")
        encoded = self.encoded(tape, regime, batch["input_features"])
        hidden = self._decoded(tape, regime, shifted, encoded)
        logits = linear(tape, hidden, self.head)
        mark_logits(tape, logits)
        loss = cross_entropy(tape, logits.as_shape((labels.numel, self.vocabulary)), labels)
        return Outputs(loss, [logits, encoded], tape.lifetimes.taken_cache())

    def _decoded(self, tape: Tape, regime: Regime, tokens: Tensor, encoded: Tensor) -> Tensor:
        words = embedding(tape, tokens, self.embedding)
        if regime.inputs_require_grad and self.adapted and not words.requires_grad:
            capture(tape, words, [])
        order = tape.empty(tokens.shape, "int64", "position ids")
        positioned = take_rows(tape, self.target_positions, order, words.shape)
        hidden = e.add(tape, words, positioned)
        embedded = [e.dropout(tape, hidden, self.dropout)]
        del hidden
        mask = regime.decoder_mask(tape, words, finds_packing=True)
        return self.decode(tape, regime, embedded, mask, encoded, None)


class WhisperForAudioClassification(WhisperEncoder):
    """WhisperForAudioClassification: the mean of the projected states through a linear layer."""

    def __init__(self, build: Builder, config: Config) -> None:
        super().__init__(build, config)
        if config.get("use_weighted_layer_sum"):
            raise NotFollowedError("use_weighted_layer_sum of Whisper's classifier")
        self.build_spectral_encoder(build, "encoder")
        width = number(config, "classifier_proj_size", default=256)
        self.projector = build.linear("projector", self.hidden, width, bias=True)
        self.classifier = build.linear("classifier", width, label_count(config), bias=True)

    def labels(self, batch: Batch) -> Shape:
        """One for every spectrogram."""
        return (batch.micro_batch_size,)

    def inputs(self, batch: Batch) -> Mapping[str, tuple[Shape, str]]:
        """Spectrograms and their labels."""
        return {"input_features": self.spectra(batch), "labels": (self.labels(batch), "int64")}

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The classes' logits."""
        hidden = self.encoded(tape, regime, batch["input_features"])
        hidden = linear(tape, hidden, self.projector)
        pooled = e.mean_rows(tape, hidden)
        logits = linear(tape, pooled, self.classifier)
        return Outputs(cross_entropy(tape, logits, batch["labels"]), [logits])
