"""What the encoder-decoders of the BART kind share: their layers' weights, attention and both stacks."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from vramlint.job import Batch
from vramlint.memory.architectures.family import Config, LayerNorm, Network, number, probability
from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Shape, Tensor
from vramlint.memory.weights import Builder

PROBABILITIES_RETURNED_UNTIL = (5, 0)
"""Before this version of transformers layers of pre-norm encoders returned what eager attention gave them, always, and
decoder layers kept both attentions' under names of their own; since then the second one replaces the first."""


class Attention(Struct):
    """Weights of one attention block."""

    k: Weights
    v: Weights
    q: Weights
    o: Weights
    heads: int


class EncoderLayer(Struct):
    """Weights of one encoder layer."""

    attention: Attention
    attention_norm: LayerNorm
    up: Weights
    down: Weights
    final_norm: LayerNorm


class DecoderLayer(EncoderLayer):
    """Weights of one decoder layer."""

    cross: Attention
    cross_norm: LayerNorm


class Seq2Seq(Network):
    """An encoder-decoder whose layers are called as BART's.

    LayerDrop is left out: the largest step is one that drops no layer.
    """

    pre_norm: ClassVar[bool] = False
    """Norms stand before attention and MLP, and behind each stack; otherwise behind attention and MLP."""
    key_bias: ClassVar[bool] = True
    embedding: Parameter

    def __init__(self, build: Builder, config: Config) -> None:
        self.hidden = number(config, "d_model")
        self.vocabulary = number(config, "vocab_size")
        self.encoder_count = number(config, "encoder_layers")
        self.decoder_count = number(config, "decoder_layers")
        self.encoder_heads = number(config, "encoder_attention_heads")
        self.decoder_heads = number(config, "decoder_attention_heads")
        self.encoder_inner = number(config, "encoder_ffn_dim")
        self.decoder_inner = number(config, "decoder_ffn_dim")
        self.activation = str(config.get("activation_function") or "gelu")
        self.dropout = probability(config, "dropout", default=0.1)
        self.attention_dropout = probability(config, "attention_dropout")
        self.activation_dropout = probability(config, "activation_dropout")

    def labels(self, batch: Batch) -> Shape:
        """One for every target token."""
        return (batch.micro_batch_size, batch.target_length or batch.sequence_length)

    # ------------------------------------------------------------------ weights

    def build_encoder(self, build: Builder, name: str) -> None:
        """The traced layers of the encoder `name` and the norm behind them."""
        self.encoder = [
            EncoderLayer(*self._shared(build, f"{name}.layers.{position}", self.encoder_heads, self.encoder_inner))
            for position in build.layers(self.encoder_count)
        ]
        self.encoder_norm = LayerNorm.of(build, f"{name}.layer_norm", self.hidden) if self.pre_norm else None

    def build_decoder(self, build: Builder, name: str) -> None:
        """The traced layers of the decoder `name` and the norm behind them."""
        self.decoder = [
            self._decoder_layer_weights(build, f"{name}.layers.{position}")
            for position in build.layers(self.decoder_count, stack=1)
        ]
        self.decoder_norm = LayerNorm.of(build, f"{name}.layer_norm", self.hidden) if self.pre_norm else None

    def _decoder_layer_weights(self, build: Builder, name: str) -> DecoderLayer:
        return DecoderLayer(
            *self._shared(build, name, self.decoder_heads, self.decoder_inner),
            cross=self._attention(build, f"{name}.encoder_attn", self.decoder_heads),
            cross_norm=LayerNorm.of(build, f"{name}.encoder_attn_layer_norm", self.hidden),
        )

    def _shared(
        self, build: Builder, name: str, heads: int, inner: int
    ) -> tuple[Attention, LayerNorm, Weights, Weights, LayerNorm]:
        return (
            self._attention(build, f"{name}.self_attn", heads),
            LayerNorm.of(build, f"{name}.self_attn_layer_norm", self.hidden),
            build.linear(f"{name}.fc1", self.hidden, inner, bias=True),
            build.linear(f"{name}.fc2", inner, self.hidden, bias=True),
            LayerNorm.of(build, f"{name}.final_layer_norm", self.hidden),
        )

    def _attention(self, build: Builder, name: str, heads: int) -> Attention:
        size = self.hidden
        return Attention(
            k=build.linear(f"{name}.k_proj", size, size, bias=self.key_bias),
            v=build.linear(f"{name}.v_proj", size, size, bias=True),
            q=build.linear(f"{name}.q_proj", size, size, bias=True),
            o=build.linear(f"{name}.out_proj", size, size, bias=True),
            heads=heads,
        )

    # ------------------------------------------------------------------ forward

    def encode(self, tape: Tape, regime: Regime, embedded: list[Tensor], mask: Tensor | None) -> Tensor:
        """The encoder's layers over embedded inputs [B, S, H], handed over in a list: nobody else holds them."""
        returns = self.pre_norm and regime.transformers < PROBABILITIES_RETURNED_UNTIL
        carried: list[Tensor] = []

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.encoder[index]

            def forward(y: Tensor, own: Tensor | None) -> tuple[Tensor, ...]:
                y = self._encoder_layer(tape, regime, weights, y, own)
                return (y, *tape.held) if returns else (y,)

            found = regime.segment(tape, forward, (x, mask))
            carried[:] = found[1:]
            return found[0]

        hidden = tape.course.repeat(self.encoder_count, layer, embedded)
        return hidden if self.encoder_norm is None else self.encoder_norm(tape, hidden)

    def decode(
        self,
        tape: Tape,
        regime: Regime,
        embedded: list[Tensor],
        mask: Tensor | None,
        encoded: Tensor,
        cross: Tensor | None,
    ) -> Tensor:
        """The decoder's layers over embedded targets [B, T, H], handed over as to the encoder."""

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.decoder[index]

            def forward(y: Tensor, own: Tensor | None, source: Tensor) -> Tensor:
                return self._decoder_layer(tape, regime, weights, y, own, source, cross)

            return regime.layer(tape, forward, x, mask, encoded)

        hidden = tape.course.repeat(self.decoder_count, layer, embedded, stack=1)
        return hidden if self.decoder_norm is None else self.decoder_norm(tape, hidden)

    def _encoder_layer(
        self, tape: Tape, regime: Regime, w: EncoderLayer, hidden: Tensor, mask: Tensor | None
    ) -> Tensor:
        residual = hidden
        hidden = self._before(tape, w.attention_norm, hidden)
        hidden = self.attend(tape, regime, w.attention, hidden, hidden, mask)
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = e.add(tape, residual, hidden)
        hidden = self._behind(tape, w.attention_norm, hidden)
        del residual
        hidden = self._feed_forward(tape, w, hidden)
        if self.pre_norm and hidden.dtype == "float16":
            hidden = e.clamp(tape, hidden)
        return hidden

    def _decoder_layer(
        self,
        tape: Tape,
        regime: Regime,
        w: DecoderLayer,
        hidden: Tensor,
        mask: Tensor | None,
        encoded: Tensor,
        cross: Tensor | None,
    ) -> Tensor:
        residual = hidden
        hidden = self._before(tape, w.attention_norm, hidden)
        hidden = self.attend(tape, regime, w.attention, hidden, hidden, mask)
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = e.add(tape, residual, hidden)
        hidden = self._behind(tape, w.attention_norm, hidden)
        residual = hidden
        hidden = self._before(tape, w.cross_norm, hidden)
        hidden = self.attend(tape, regime, w.cross, hidden, encoded, cross)
        if regime.transformers >= PROBABILITIES_RETURNED_UNTIL:
            del tape.held[:-1]
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = e.add(tape, residual, hidden)
        hidden = self._behind(tape, w.cross_norm, hidden)
        del residual
        return self._feed_forward(tape, w, hidden)

    def _before(self, tape: Tape, norm: LayerNorm, hidden: Tensor) -> Tensor:
        return norm(tape, hidden) if self.pre_norm else hidden

    def _behind(self, tape: Tape, norm: LayerNorm, hidden: Tensor) -> Tensor:
        return hidden if self.pre_norm else norm(tape, hidden)

    def _feed_forward(self, tape: Tape, w: EncoderLayer, hidden: Tensor) -> Tensor:
        residual = hidden
        hidden = self._before(tape, w.final_norm, hidden)
        hidden = activation(tape, self.activation, linear(tape, hidden, w.up))
        hidden = e.dropout(tape, hidden, self.activation_dropout)
        hidden = linear(tape, hidden, w.down)
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = e.add(tape, residual, hidden)
        return self._behind(tape, w.final_norm, hidden)

    def attend(
        self, tape: Tape, regime: Regime, w: Attention, hidden: Tensor, source: Tensor, mask: Tensor | None
    ) -> Tensor:
        """BartAttention.forward: queries from `hidden` [B, T, H], keys and values from `source` [B, S, H]."""
        attended = regime.attend(
            tape,
            self.queries(tape, hidden, w),
            self.projected(tape, source, w.k, w.heads),
            self.projected(tape, source, w.v, w.heads),
            mask,
            self.attention_dropout,
            widens=False,
        )
        return linear(tape, attended, w.o)

    def queries(self, tape: Tape, hidden: Tensor, w: Attention) -> Tensor:
        """[B, heads, T, d]."""
        return self.projected(tape, hidden, w.q, w.heads)

    def projected(self, tape: Tape, x: Tensor, weights: Weights, heads: int) -> Tensor:
        """[B, S, H] through a linear layer as [B, heads, S, d]."""
        return attention.split_heads(tape, linear(tape, x, weights), heads)
