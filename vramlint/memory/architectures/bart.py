"""BART: a post-norm encoder-decoder (transformers 5.23 models/bart)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.family import Config, LayerNorm, Outputs, number
from vramlint.memory.architectures.seq2seq import DecoderLayer, EncoderLayer, Seq2Seq
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.softmax import cross_entropy, mark_logits
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder

POSITION_OFFSET = 2
"""Rows of the position tables before the first position."""


class Bart(Seq2Seq):
    """BartForConditionalGeneration."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"bart": ("q_proj", "v_proj")}

    def __init__(self, build: Builder, config: Config) -> None:
        super().__init__(build, config)
        positions = number(config, "max_position_embeddings", default=1024) + POSITION_OFFSET
        self.embedding = build.parameter("model.shared.weight", (self.vocabulary, self.hidden))
        tables = [
            build.parameter(f"model.{part}.embed_positions.weight", (positions, self.hidden))
            for part in ("encoder", "decoder")
        ]
        self.encoder_positions, self.decoder_positions = tables
        self.encoder = self.encoder_layers(build)
        self.decoder = self.decoder_layers(build)
        self.encoder_norm = LayerNorm.of(build, "model.encoder.layernorm_embedding", self.hidden)
        self.decoder_norm = LayerNorm.of(build, "model.decoder.layernorm_embedding", self.hidden)
        build.buffer(build.width * self.vocabulary)
        self.head = build.tied(self.embedding)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The decoder sees the labels shifted by one."""
        labels = batch["labels"]
        shifted = tape.empty(labels.shape, "int64", "decoder input ids")
        encoded = self._encode(tape, regime, batch["input_ids"])
        hidden = self._decode(tape, regime, shifted, encoded)
        logits = linear(tape, hidden, self.head)
        mark_logits(tape, logits)
        bias = Tensor((1, self.vocabulary), self.embedding.dtype, None)
        logits = e.add(tape, logits, bias)
        mark_logits(tape, logits)
        loss = cross_entropy(tape, logits.as_shape((labels.numel, self.vocabulary)), labels)
        return Outputs(loss, [logits, encoded])

    def _embed(
        self, tape: Tape, regime: Regime, tokens: Tensor, rows: int, positions: Parameter, norm: LayerNorm
    ) -> tuple[Tensor, Tensor]:
        """Scaled token embeddings, and what enters the first layer; `rows` position ids for [B, S] tokens."""
        words = embedding(tape, tokens, self.embedding)
        if regime.inputs_require_grad and not words.requires_grad:
            tape.capture(words, [])
        words = e.linear_unary(tape, "mul", words)
        order = tape.empty((rows, tokens.shape[1]), "int64", "position ids")
        positioned = embedding(tape, order, positions)
        hidden = e.add(tape, words, positioned)
        hidden = norm(tape, hidden)
        return words, e.dropout(tape, hidden, self.dropout)

    def _encode(self, tape: Tape, regime: Regime, tokens: Tensor) -> Tensor:
        rows = tokens.shape[0]
        words, hidden = self._embed(tape, regime, tokens, rows, self.encoder_positions, self.encoder_norm)
        mask = regime.bidirectional_mask(tape, words)

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.encoder[index]
            return regime.layer(tape, lambda y: self._encoder_layer(tape, regime, weights, y, mask), x)

        return tape.repeat(self.encoder_count, layer, hidden)

    def _decode(self, tape: Tape, regime: Regime, tokens: Tensor, encoded: Tensor) -> Tensor:
        words, hidden = self._embed(tape, regime, tokens, 1, self.decoder_positions, self.decoder_norm)
        mask = regime.decoder_mask(tape, words)
        cross = regime.bidirectional_mask(tape, encoded, queries=tokens.shape[1])

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.decoder[index]
            return regime.layer(tape, lambda y: self._decoder_layer(tape, regime, weights, y, encoded, mask, cross), x)

        return tape.repeat(self.decoder_count, layer, hidden, stack=1)

    def _encoder_layer(
        self, tape: Tape, regime: Regime, w: EncoderLayer, hidden: Tensor, mask: Tensor | None
    ) -> Tensor:
        residual = hidden
        hidden = self.attend(tape, regime, w.attention, hidden, hidden, mask)
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = e.add(tape, residual, hidden)
        hidden = w.attention_norm(tape, hidden)
        residual = hidden
        hidden = self.feed_forward(tape, w.up, w.down, hidden)
        hidden = e.add(tape, residual, hidden)
        return w.final_norm(tape, hidden)

    def _decoder_layer(
        self,
        tape: Tape,
        regime: Regime,
        w: DecoderLayer,
        hidden: Tensor,
        encoded: Tensor,
        mask: Tensor | None,
        cross: Tensor | None,
    ) -> Tensor:
        residual = hidden
        hidden = self.attend(tape, regime, w.attention, hidden, hidden, mask)
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = e.add(tape, residual, hidden)
        hidden = w.attention_norm(tape, hidden)
        residual = hidden
        hidden = self.attend(tape, regime, w.cross, hidden, encoded, cross)
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = e.add(tape, residual, hidden)
        hidden = w.cross_norm(tape, hidden)
        residual = hidden
        hidden = self.feed_forward(tape, w.up, w.down, hidden)
        hidden = e.add(tape, residual, hidden)
        return w.final_norm(tape, hidden)
