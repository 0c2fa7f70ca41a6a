"""Whisper: convolutions over a spectrogram, a pre-norm encoder-decoder (transformers 5.23 models/whisper)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.job import Batch
from vramlint.memory.architectures.family import Config, LayerNorm, Outputs, number
from vramlint.memory.architectures.seq2seq import Attention, DecoderLayer, EncoderLayer, Seq2Seq
from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.convolution import Convolution
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.experts import take_rows
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.softmax import cross_entropy, mark_logits
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Shape, Tensor
from vramlint.memory.weights import Builder

KERNEL = 3


class Whisper(Seq2Seq):
    """WhisperForConditionalGeneration."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    key_bias: ClassVar[bool] = False

    def __init__(self, build: Builder, config: Config) -> None:
        super().__init__(build, {"dropout": 0.0, **config})
        self.bins = number(config, "num_mel_bins", default=80)
        self.source_length = number(config, "max_source_positions", default=1500)
        targets = number(config, "max_target_positions", default=448)
        part = "model.encoder"
        self.conv1 = Convolution.of(build, f"{part}.conv1", (self.hidden, self.bins, KERNEL))
        self.conv2 = Convolution.of(build, f"{part}.conv2", (self.hidden, self.hidden, KERNEL))
        self.source_positions = build.parameter(f"{part}.embed_positions.weight", (self.source_length, self.hidden))
        self.source_positions.requires_grad = False  # sinusoids
        self.encoder = self.encoder_layers(build)
        self.encoder_norm = LayerNorm.of(build, f"{part}.layer_norm", self.hidden)
        part = "model.decoder"
        self.embedding = build.parameter(f"{part}.embed_tokens.weight", (self.vocabulary, self.hidden))
        self.target_positions = build.parameter(f"{part}.embed_positions.weight", (targets, self.hidden))
        self.decoder = self.decoder_layers(build)
        self.decoder_norm = LayerNorm.of(build, f"{part}.layer_norm", self.hidden)
        self.head = build.tied(self.embedding)

    def inputs(self, batch: Batch) -> Mapping[str, tuple[Shape, str]]:
        """Spectrograms of full length and the target tokens."""
        count = batch.micro_batch_size
        length = batch.target_length or batch.sequence_length
        features = (count, self.bins, 2 * self.source_length)
        return {"input_features": (features, "float32"), "labels": ((count, length), "int64")}

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The decoder sees the labels shifted by one."""
        labels = batch["labels"]
        shifted = tape.empty(labels.shape, "int64", "decoder input ids")
        encoded = self._encode(tape, regime, batch["input_features"])
        hidden = self._decode(tape, regime, shifted, encoded)
        logits = linear(tape, hidden, self.head)
        mark_logits(tape, logits)
        loss = cross_entropy(tape, logits.as_shape((labels.numel, self.vocabulary)), labels)
        return Outputs(loss, [logits, encoded])

    def _encode(self, tape: Tape, regime: Regime, features: Tensor) -> Tensor:
        states = e.unary(tape, "gelu", self.conv1(tape, features, 2 * self.source_length))
        states = e.unary(tape, "gelu", self.conv2(tape, states, self.source_length))
        states = e.transposed(tape, states)
        order = tape.empty((self.source_length,), "int64", "positions")
        hidden = e.add(tape, states, embedding(tape, order, self.source_positions))
        hidden = e.dropout(tape, hidden, self.dropout)

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.encoder[index]
            return regime.layer(tape, lambda y: self._encoder_layer(tape, regime, weights, y), x)

        hidden = tape.repeat(self.encoder_count, layer, hidden)
        return self.encoder_norm(tape, hidden)

    def _decode(self, tape: Tape, regime: Regime, tokens: Tensor, encoded: Tensor) -> Tensor:
        words = embedding(tape, tokens, self.embedding)
        if regime.inputs_require_grad and not words.requires_grad:
            tape.capture(words, [])
        order = tape.empty(tokens.shape, "int64", "position ids")
        positioned = take_rows(tape, self.target_positions, order, words.shape)
        hidden = e.add(tape, words, positioned)
        hidden = e.dropout(tape, hidden, self.dropout)
        mask = regime.decoder_mask(tape, words, finds_packing=True)

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.decoder[index]
            return regime.layer(tape, lambda y: self._decoder_layer(tape, regime, weights, y, encoded, mask), x)

        hidden = tape.repeat(self.decoder_count, layer, hidden, stack=1)
        return self.decoder_norm(tape, hidden)

    def _encoder_layer(self, tape: Tape, regime: Regime, w: EncoderLayer, hidden: Tensor) -> Tensor:
        residual = hidden
        hidden = w.attention_norm(tape, hidden)
        hidden = self.attend(tape, regime, w.attention, hidden, hidden, None)
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = e.add(tape, residual, hidden)
        residual = hidden
        hidden = w.final_norm(tape, hidden)
        hidden = self.feed_forward(tape, w.up, w.down, hidden)
        return e.add(tape, residual, hidden)

    def _decoder_layer(
        self, tape: Tape, regime: Regime, w: DecoderLayer, hidden: Tensor, encoded: Tensor, mask: Tensor | None
    ) -> Tensor:
        residual = hidden
        hidden = w.attention_norm(tape, hidden)
        hidden = self.attend(tape, regime, w.attention, hidden, hidden, mask)
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = e.add(tape, residual, hidden)
        residual = hidden
        hidden = w.cross_norm(tape, hidden)
        hidden = self.attend(tape, regime, w.cross, hidden, encoded, None)
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = e.add(tape, residual, hidden)
        residual = hidden
        hidden = w.final_norm(tape, hidden)
        hidden = self.feed_forward(tape, w.up, w.down, hidden)
        return e.add(tape, residual, hidden)

    def attend(
        self, tape: Tape, regime: Regime, w: Attention, hidden: Tensor, source: Tensor, mask: Tensor | None
    ) -> Tensor:
        """WhisperAttention.forward: scaled queries; everything is copied heads-first."""
        q = self._first(tape, e.linear_unary(tape, "mul", linear(tape, hidden, w.q)), w.heads)
        k = self._first(tape, linear(tape, source, w.k), w.heads)
        v = self._first(tape, linear(tape, source, w.v), w.heads)
        return linear(tape, regime.attend(tape, q, k, v, mask, self.attention_dropout, widens=False), w.o)

    def _first(self, tape: Tape, x: Tensor, heads: int) -> Tensor:
        out = e.clone(tape, attention.split_heads(tape, x, heads))
        out.heads_first = True
        return out
