"""T5, mT5 and UMT5 with their heads (transformers 5.23 models/t5, mt5, umt5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec.structs import replace

from vramlint.job import Batch
from vramlint.memory.architectures.eos_head import EosHead
from vramlint.memory.architectures.family import Config, Outputs
from vramlint.memory.architectures.t5_stacks import SHAPE, TIED_FROM, T5Model
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.softmax import cross_entropy, mark_logits
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Shape, Tensor
from vramlint.memory.weights import Builder

MULTILINGUAL: Config = {
    **SHAPE,
    "num_layers": 8,
    "num_heads": 6,
    "d_ff": 1024,
    "vocab_size": 250112,
    "feed_forward_proj": "gated-gelu",
}


class T5(T5Model):
    """T5ForConditionalGeneration."""

    tied_by_default: ClassVar[bool] = True
    """What transformers 4's configuration class has."""

    def __init__(self, build: Builder, config: Config) -> None:
        super().__init__(build, config)
        default = self.tied_by_default or build.transformers >= TIED_FROM
        tied = bool(config.get("tie_word_embeddings", default))
        self.scaled = self.scales(build, config, tied=tied)
        self.head = (
            build.tied(self.embedding) if tied else build.linear("lm_head", self.hidden, self.vocabulary, head=True)
        )

    def scales(self, build: Builder, config: Config, *, tied: bool) -> bool:
        """Whether the head's input is multiplied by a number; `tied`: what the config says of the head."""
        del build
        return bool(config.get("scale_decoder_outputs", tied))

    def labels(self, batch: Batch) -> Shape:
        """One for every target token."""
        return (batch.micro_batch_size, batch.target_length or batch.sequence_length)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The decoder sees the labels shifted by one; the loss is taken in the dtype of the logits."""
        labels = batch["labels"]
        encoded = self.encoded(tape, regime, batch["input_ids"])
        shifted = tape.empty(labels.shape, "int64", "decoder input ids")
        hidden = self.decoded(tape, regime, shifted, encoded)
        scaled = e.linear_unary(tape, "mul", hidden) if self.scaled else hidden
        logits = linear(tape, scaled, self.head)
        mark_logits(tape, logits)
        loss = cross_entropy(tape, logits.as_shape((labels.numel, self.vocabulary)), labels)
        return Outputs(loss, [logits, encoded], tape.lifetimes.taken_cache())


class T5ForSequenceClassification(T5Model):
    """T5ForSequenceClassification."""

    prefix: ClassVar[str] = "transformer."

    def __init__(self, build: Builder, config: Config) -> None:
        super().__init__(build, config)
        self.use_cache = False
        self.head = EosHead(build, config, self.hidden)

    def labels(self, batch: Batch) -> Shape:
        """One for every sequence."""
        return (batch.micro_batch_size,)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The decoder sees the inputs shifted by one."""
        regime = replace(regime, use_cache=False)
        tokens = batch["input_ids"]
        shifted = tape.empty(tokens.shape, "int64", "decoder input ids")
        encoded = self.encoded(tape, regime, tokens)
        hidden = self.decoded(tape, regime, shifted, encoded)
        logits = self.head(tape, hidden, tokens)
        return Outputs(cross_entropy(tape, logits, batch["labels"]), [logits, encoded])


class MT5(T5):
    """MT5ForConditionalGeneration."""

    defaults: ClassVar[Config] = MULTILINGUAL
    tied_by_default: ClassVar[bool] = False

    def scales(self, build: Builder, config: Config, *, tied: bool) -> bool:
        """Never in transformers 5."""
        del config
        return tied and build.transformers < TIED_FROM


class MT5ForSequenceClassification(T5ForSequenceClassification):
    """MT5ForSequenceClassification."""

    defaults: ClassVar[Config] = MULTILINGUAL


class UMT5(T5):
    """UMT5ForConditionalGeneration."""

    defaults: ClassVar[Config] = MULTILINGUAL
    shares_biases: ClassVar[bool] = False

    def scales(self, build: Builder, config: Config, *, tied: bool) -> bool:
        """Always in transformers 5."""
        del config
        return tied or build.transformers >= TIED_FROM


class UMT5ForSequenceClassification(MT5ForSequenceClassification):
    """UMT5ForSequenceClassification."""

    shares_biases: ClassVar[bool] = False
