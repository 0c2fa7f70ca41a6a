"""BART, from which its relatives differ in norms, positions and scales (transformers 5.23 models/bart)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec.structs import replace

from vramlint.job import Batch
from vramlint.memory.architectures.eos_head import EosHead, with_three_labels
from vramlint.memory.architectures.family import Config, LayerNorm, Outputs, number
from vramlint.memory.architectures.positions import LearnedByRow, Positions
from vramlint.memory.architectures.seq2seq import Seq2Seq
from vramlint.memory.leaves import capture
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.softmax import cross_entropy, mark_logits
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import ENCODER_MASKS_FROM, Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Shape, Tensor
from vramlint.memory.weights import Builder

HOOKED_EMBEDDINGS_FROM = (5, 0)
"""Since then enable_input_require_grads hooks the embedding of every stack; before, only the module `shared`."""
SHAPE: Config = {
    "d_model": 1024,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
    "vocab_size": 50265,
}


class BartModel(Seq2Seq):
    """BartModel below a head."""

    defaults: ClassVar[Config] = {}
    """What its configuration class has where BART's has something else."""
    positions: ClassVar[type[Positions]] = LearnedByRow
    embedding_norm: ClassVar[bool] = True
    scales_behind: ClassVar[bool] = False
    """Whether the stack scales what its embedding returns; otherwise the embedding does."""
    norms_targets: ClassVar[bool] = False
    """Whether the decoder takes its token embeddings unscaled and normalises them before it adds positions."""
    calls_shared: ClassVar[bool] = False
    """Whether, before transformers 5, both stacks call the module `shared` itself rather than one with its weight."""
    caches: ClassVar[bool] = False
    """Whether the decoder keeps its cache beside labels (without them, as under label smoothing, every one does)."""

    def __init__(self, build: Builder, config: Config) -> None:
        config = {**SHAPE, **self.defaults, **config}
        super().__init__(build, config)
        if not config.get("tie_word_embeddings", True):
            raise NotFollowedError("an encoder-decoder with untied embeddings")
        self.targets_hooked = True
        self.inputs_hooked = build.transformers >= HOOKED_EMBEDDINGS_FROM or self.calls_shared
        if build.reentrant and build.adapter is not None and not self.inputs_hooked:
            raise NotFollowedError("a reentrant checkpoint of which no input requires a gradient")
        count = number(config, "max_position_embeddings", default=1024)
        self.build_embeddings(build, config)
        part = "model.encoder"
        self.encoder_positions = self.positions(build, f"{part}.embed_positions", count, self.hidden)
        self.encoder_embedding_norm = self._embedding_norm(build, part)
        self.build_encoder(build, part)
        part = "model.decoder"
        self.decoder_positions = self.positions(build, f"{part}.embed_positions", count, self.hidden)
        self.decoder_embedding_norm = self._embedding_norm(build, part)
        self.build_decoder(build, part)

    def build_embeddings(self, build: Builder, config: Config) -> None:
        """One table for both stacks and the head."""
        self.embedding = build.parameter("model.shared.weight", (self.vocabulary, self.hidden))
        self.source_embedding = self.target_embedding = self.embedding

    def _embedding_norm(self, build: Builder, part: str) -> LayerNorm | None:
        return LayerNorm.of(build, f"{part}.layernorm_embedding", self.hidden) if self.embedding_norm else None

    def last_hidden_state(self, tape: Tape, regime: Regime, tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """BartModel.forward: the decoder's and the encoder's states."""
        uncached = replace(regime, use_cache=False)
        encoded = self._encode(tape, uncached, tokens)
        hidden = self._decode(tape, regime if self.caches or tape.defers_loss else uncached, targets, encoded)
        return hidden, encoded

    def _encode(self, tape: Tape, regime: Regime, tokens: Tensor) -> Tensor:
        words = self._words(tape, regime, tokens, self.source_embedding, hooked=self.inputs_hooked)
        if self.scales_behind:
            words = e.linear_unary(tape, "mul", words)
        positioned = self.encoder_positions(tape, tokens, decodes=False)
        hidden = e.add(tape, words, positioned)
        if self.encoder_embedding_norm is not None:
            hidden = self.encoder_embedding_norm(tape, hidden)
        embedded = [e.dropout(tape, hidden, self.dropout)]
        del hidden
        mask = self._padding_mask(tape, regime, words, words)
        return self.encode(tape, regime, embedded, mask)

    def _decode(self, tape: Tape, regime: Regime, tokens: Tensor, encoded: Tensor) -> Tensor:
        hooked = self.inputs_hooked and self.targets_hooked
        words = self._words(tape, regime, tokens, self.target_embedding, hooked=hooked)
        if self.scales_behind and not self.norms_targets:
            words = e.linear_unary(tape, "mul", words)
        mask = regime.decoder_mask(tape, words)
        cross = self._padding_mask(tape, regime, words, encoded)
        positioned = self.decoder_positions(tape, tokens, decodes=True)
        norm = self.decoder_embedding_norm
        if norm is not None and self.norms_targets:
            words = norm(tape, words)
        hidden = e.add(tape, words, positioned)
        if norm is not None and not self.norms_targets:
            hidden = norm(tape, hidden)
        embedded = [e.dropout(tape, hidden, self.dropout)]
        del hidden
        return self.decode(tape, regime, embedded, mask, encoded, cross)

    def _words(self, tape: Tape, regime: Regime, tokens: Tensor, table: Parameter, *, hooked: bool) -> Tensor:
        """What the stack's embedding returns for `tokens`, which a hook can make require a gradient."""
        words = embedding(tape, tokens, table)
        if not self.scales_behind:
            words = e.linear_unary(tape, "mul", words)
        if regime.inputs_require_grad and hooked and not words.requires_grad:
            capture(tape, words, [])
        return words

    def _padding_mask(self, tape: Tape, regime: Regime, words: Tensor, source: Tensor) -> Tensor | None:
        """The mask over the keys `source`; before transformers 5 eager attention has one whatever it masks."""
        rows = words.shape[1]
        if regime.transformers >= ENCODER_MASKS_FROM or regime.implementation != "eager":
            return regime.bidirectional_mask(tape, source, queries=rows)
        shape = (source.shape[0], 1, rows, source.shape[1])
        return tape.empty(shape, words.dtype, "attention mask") if regime.attention_mask else None


class Bart(BartModel):
    """BartForConditionalGeneration."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"bart": ("q_proj", "v_proj")}
    logits_bias: ClassVar[bool] = True

    def __init__(self, build: Builder, config: Config) -> None:
        super().__init__(build, config)
        self.head = build.tied(self.target_embedding)
        self.bias = None
        if self.logits_bias:
            self.bias = Tensor((1, self.head.out_features), build.dtype, None)
            build.buffer(self.bias.nbytes)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The decoder sees the labels shifted by one; the loss is taken in the dtype of the logits."""
        labels = batch["labels"]
        shifted = tape.empty(labels.shape, "int64", "decoder input ids")
        hidden, encoded = self.last_hidden_state(tape, regime, batch["input_ids"], shifted)
        logits = linear(tape, hidden, self.head)
        mark_logits(tape, logits)
        if self.bias is not None:
            logits = e.add(tape, logits, self.bias)
            mark_logits(tape, logits)
        loss = cross_entropy(tape, logits.as_shape((labels.numel, self.head.out_features)), labels)
        return Outputs(loss, [logits, encoded], tape.lifetimes.taken_cache())


class BartForSequenceClassification(BartModel):
    """BartForSequenceClassification."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = Bart.default_targets
    three_labels: ClassVar[bool] = True

    def __init__(self, build: Builder, config: Config) -> None:
        super().__init__(build, config)
        self.head = EosHead(build, with_three_labels(config) if self.three_labels else config, self.hidden)

    def labels(self, batch: Batch) -> Shape:
        """One for every sequence."""
        return (batch.micro_batch_size,)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The decoder sees the inputs shifted by one."""
        tokens = batch["input_ids"]
        shifted = tape.empty(tokens.shape, "int64", "decoder input ids")
        hidden, encoded = self.last_hidden_state(tape, replace(regime, use_cache=False), tokens, shifted)
        logits = self.head(tape, hidden, tokens)
        return Outputs(cross_entropy(tape, logits, batch["labels"]), [logits, encoded])
