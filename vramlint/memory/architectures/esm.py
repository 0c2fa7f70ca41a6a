"""ESM: BERT for proteins, which normalises before it attends and may rotate (transformers 5.23 models/esm)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct

from vramlint.memory.architectures.bert import Bert, RobertaForSequenceClassification
from vramlint.memory.architectures.encoder import Layer, embedded, layer_of
from vramlint.memory.architectures.encoder_heads import TokenClassification
from vramlint.memory.architectures.family import Config, LayerNorm, Outputs, number
from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import esm_gelu
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.indexing import masked_fill
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.pooling import divide, masked
from vramlint.memory.ops.rotary import Rotary, rotary, rotate_in_float32
from vramlint.memory.ops.softmax import cross_entropy, mark_logits
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

SHARED_TABLES_FROM = (5, 6)
"""Since then rotary tables are made once; before every layer kept tables of its own from one step to the next."""
POSITIONS = ("absolute", "rotary")


class Seen(Struct, frozen=True):
    """What all layers see beside the states."""

    mask: Tensor | None
    position: Rotary | None


class Esm(Bert):
    """EsmModel below a head."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def _sizes(self, config: Config) -> None:
        self.positions = str(config.get("position_embedding_type", "absolute"))
        self.drops_tokens = bool(config.get("token_dropout", False))
        self.normed_before = bool(config.get("emb_layer_norm_before", False))
        if self.positions not in POSITIONS:
            raise NotFollowedError(f"{self.positions} as position_embedding_type")

    def _tables(self, build: Builder, config: Config) -> None:
        if build.transformers < SHARED_TABLES_FROM:
            raise NotFollowedError("ESM before transformers 5.6")
        positions = number(config, "max_position_embeddings", default=1026)
        build.buffer(8 * positions)
        table = f"{self.prefix}.embeddings"
        shape = (positions, self.hidden)
        self.embedding = build.parameter(f"{table}.word_embeddings.weight", (self.vocabulary, self.hidden))
        absolute = self.positions == "absolute"
        self.order = build.parameter(f"{table}.position_embeddings.weight", shape) if absolute else None
        name = f"{table}.layer_norm"
        self.norm_before = LayerNorm.of(build, name, self.hidden) if self.normed_before else None
        if not absolute:
            build.buffer(4 * (self.hidden // self.heads // 2))

    def _stack(self, build: Builder) -> None:
        super()._stack(build)
        self.norm_after = LayerNorm.of(build, f"{self.prefix}.encoder.emb_layer_norm_after", self.hidden)
        contact = f"{self.prefix}.contact_head.regression"  # no loss reaches it
        build.parameter(f"{contact}.weight", (1, self.count * self.heads), fixed=True)
        build.parameter(f"{contact}.bias", (1,), decay=False, fixed=True)

    def _layer(self, build: Builder, name: str) -> Layer:
        return layer_of(build, name, self.hidden, self.inner, ("LayerNorm", "LayerNorm"))

    def last_hidden_state(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Tensor:
        """EsmModel.forward."""
        start = self._start(tape, regime, batch["input_ids"], batch.get("attention_mask"))
        rotates = self.positions == "rotary"
        seen = Seen(
            self._mask(tape, regime, start),
            rotary(tape, start, self.hidden // self.heads) if rotates else None,
        )

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.layers[index]
            return regime.layer(tape, lambda y: self._step(tape, regime, weights, y, seen), x)

        return self.norm_after(tape, tape.course.repeat(self.count, layer, [start]))

    def _start(self, tape: Tape, regime: Regime, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """EsmEmbeddings.forward: masked tokens may be zeros, and what is left is scaled for them."""
        places = tape.empty(tokens.shape, "int64", "position ids")
        words = embedded(tape, regime, embedding(tape, tokens, self.embedding))
        hidden = words
        if self.drops_tokens:
            hidden = masked_fill(tape, hidden, tape.empty((*tokens.shape, 1), "bool", "mask"))
            share = tape.empty((tokens.shape[0], 1, 1), "float32", "mask ratio")
            hidden = tape.to(divide(tape, e.linear_unary(tape, "mul", hidden), share), hidden.dtype)
        if self.order is not None:
            hidden = e.add(tape, hidden, embedding(tape, places, self.order))
        if self.norm_before is not None:
            hidden = self.norm_before(tape, hidden)
        if mask is not None:
            hidden = masked(tape, hidden, mask)
        del words
        return hidden

    def _step(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, seen: Seen) -> Tensor:
        attended = self._attended(tape, regime, w, hidden, seen)
        normed = w.output_norm(tape, attended)
        fed = esm_gelu(tape, linear(tape, normed, w.up))
        return self._added_to(tape, fed, attended, w.down)

    def _attended(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, seen: Seen) -> Tensor:
        normed = w.attention_norm(tape, hidden)
        q, k, v = (attention.split_heads(tape, linear(tape, normed, part), self.heads) for part in (w.q, w.k, w.v))
        q = e.linear_unary(tape, "mul", q)
        if seen.position is not None:
            q, k = rotate_in_float32(tape, q, k, seen.position)
        context = regime.attend(tape, q, k, v, seen.mask, self.attention_dropout, widens=False)
        del q, k, v
        tape.held.clear()
        return self._added_to(tape, context, hidden, w.o)

    def _added_to(self, tape: Tape, x: Tensor, residual: Tensor, dense: Weights) -> Tensor:
        return e.add(tape, e.dropout(tape, linear(tape, x, dense), self.dropout), residual)


class EsmForMaskedLM(Esm):
    """EsmForMaskedLM: the bias is added to the logits."""

    def _head(self, build: Builder, config: Config) -> None:
        self.transform = build.linear("lm_head.dense", self.hidden, self.hidden, bias=True)
        self.transform_norm = LayerNorm.of(build, "lm_head.layer_norm", self.hidden)
        tied = self.embedding if config.get("tie_word_embeddings", True) else None
        self.decoder = build.linear("lm_head.decoder", self.hidden, self.vocabulary, head=True, tied_to=tied)
        self.word_bias = build.parameter("lm_head.bias", (self.vocabulary,), decay=False)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The loss is taken in the dtype of the logits."""
        hidden = self.last_hidden_state(tape, regime, batch)
        logits = self._logits(tape, hidden)
        flat = logits.as_shape((logits.numel // self.vocabulary, self.vocabulary))
        return Outputs(cross_entropy(tape, flat, batch["labels"]), [logits])

    def _logits(self, tape: Tape, hidden: Tensor) -> Tensor:
        x = linear(tape, hidden, self.transform)
        x = esm_gelu(tape, x)
        x = self.transform_norm(tape, x)
        logits = e.add(tape, linear(tape, x, self.decoder), self.word_bias)
        mark_logits(tape, logits)
        return logits


class EsmForSequenceClassification(RobertaForSequenceClassification, Esm):
    """EsmForSequenceClassification."""


class EsmForTokenClassification(TokenClassification, Esm):
    """EsmForTokenClassification."""
