"""MPNet: BERT with a position bias that all layers share (transformers 5.23 models/mpnet)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec.structs import replace

from vramlint.memory.architectures.bert import Bert, RobertaForSequenceClassification
from vramlint.memory.architectures.encoder import ROBERTA_LANGUAGE_HEAD, Layer, embedded
from vramlint.memory.architectures.family import Config, LayerNorm, number
from vramlint.memory.architectures.masked_lm import MaskedLM
from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.named_scores import masked_scores, weighted_by
from vramlint.memory.ops.relative import bias_table
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

SHARED_MASKS_FROM = (5, 9)
"""Since then its masks are made as those of other encoders."""


class MPNet(Bert):
    """MPNetModel below a head; it has eager attention of its own."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    language_head = ROBERTA_LANGUAGE_HEAD
    language_activation = "gelu"

    def _tables(self, build: Builder, config: Config) -> None:
        if build.checkpointed:
            raise NotFollowedError("checkpointing of MPNet, which transformers refuses,")
        positions = number(config, "max_position_embeddings", default=512)
        build.buffer(8 * positions)
        table = f"{self.prefix}.embeddings"
        self.embedding = build.parameter(f"{table}.word_embeddings.weight", (self.vocabulary, self.width))
        self.position_table = build.parameter(f"{table}.position_embeddings.weight", (positions, self.width))
        self.embedding_norm = LayerNorm.of(build, f"{table}.LayerNorm", self.width)
        self.buckets = number(config, "relative_attention_num_buckets", default=32)

    def _stack(self, build: Builder) -> None:
        super()._stack(build)
        name = f"{self.prefix}.encoder.relative_attention_bias.weight"
        self.bias_table = build.parameter(name, (self.buckets, self.heads))

    def _layer(self, build: Builder, name: str) -> Layer:
        size, attn = self.hidden, f"{name}.attention"
        return Layer(
            q=build.linear(f"{attn}.attn.q", size, size, bias=True),
            k=build.linear(f"{attn}.attn.k", size, size, bias=True),
            v=build.linear(f"{attn}.attn.v", size, size, bias=True),
            o=build.linear(f"{attn}.attn.o", size, size, bias=True),
            attention_norm=LayerNorm.of(build, f"{attn}.LayerNorm", size),
            up=build.linear(f"{name}.intermediate.dense", size, self.inner, bias=True),
            down=build.linear(f"{name}.output.dense", self.inner, size, bias=True),
            output_norm=LayerNorm.of(build, f"{name}.output.LayerNorm", size),
        )

    def last_hidden_state(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Tensor:
        """MPNetModel.forward."""
        return super().last_hidden_state(tape, replace(regime, implementation="eager"), batch)

    def _mask(self, tape: Tape, regime: Regime, hidden: Tensor) -> Tensor | None:
        own = regime.transformers < SHARED_MASKS_FROM
        return self._own_mask(tape, hidden) if own else regime.bidirectional_mask(tape, hidden)

    def _embed(self, tape: Tape, regime: Regime, tokens: Tensor) -> Tensor:
        order = tape.empty(tokens.shape, "int64", "position ids")
        words = embedded(tape, regime, embedding(tape, tokens, self.embedding))
        positioned = embedding(tape, order, self.position_table)
        hidden = self.embedding_norm(tape, e.add(tape, words, positioned))
        return e.dropout(tape, hidden, self.dropout)

    def _run(self, tape: Tape, regime: Regime, hidden: Tensor, mask: Tensor | None) -> Tensor:
        bias = self._position_bias(tape, hidden)

        def layer(x: Tensor, index: int) -> Tensor:
            return self._biased(tape, self.layers[index], x, mask, bias)

        return tape.course.repeat(self.count, layer, [hidden])

    def _position_bias(self, tape: Tape, hidden: Tensor) -> Tensor:
        """compute_position_bias: a copy for every sequence."""
        batch, length = hidden.shape[:2]
        shape = (1, self.heads, length, length)
        table = bias_table(tape, self.bias_table, shape)
        bias = attention.expanded_batch(tape, table, batch)
        bias.heads_first = True
        return bias

    def _biased(self, tape: Tape, w: Layer, hidden: Tensor, mask: Tensor | None, bias: Tensor) -> Tensor:
        attended = self._attended(tape, w, hidden, mask, bias)
        attended = w.attention_norm(tape, e.add(tape, e.dropout(tape, attended, self.dropout), hidden))
        return self._fed(tape, w, attended)

    def _attended(self, tape: Tape, w: Layer, hidden: Tensor, mask: Tensor | None, bias: Tensor) -> Tensor:
        q, k, v = (attention.split_heads(tape, linear(tape, hidden, part), self.heads) for part in (w.q, w.k, w.v))
        scores = masked_scores(tape, q, k, mask, bias)
        context, weights = weighted_by(tape, scores, v, self.attention_dropout)
        out = linear(tape, context, w.o)
        del scores, weights
        return out


class MPNetForMaskedLM(MaskedLM, MPNet):
    """MPNetForMaskedLM."""


class MPNetForSequenceClassification(RobertaForSequenceClassification, MPNet):
    """MPNetForSequenceClassification."""
