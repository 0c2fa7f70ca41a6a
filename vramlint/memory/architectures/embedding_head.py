"""Encoders that turn texts into vectors (sentence_transformers 5.1 models/Pooling.py, losses/).

The loss is MultipleNegativesRankingLoss: the model runs once for every text of a sample, and each anchor has to find
its own partner among those of the batch. Every run has an autocast of its own, the loss has none. Other losses of as
many texts differ from it by some tensors of one vector for every sample. The states are averaged, which is the default
for a model without modules of its own; taking the first state keeps two tensors of all states less for every text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.job import Batch
from vramlint.memory.architectures.encoder import Encoder
from vramlint.memory.architectures.family import Config, Outputs
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import matmul
from vramlint.memory.ops.pooling import expanded_mean, normalized
from vramlint.memory.ops.selection import joined
from vramlint.memory.ops.softmax import cross_entropy
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Shape, Tensor
from vramlint.memory.weights import Builder

PARTS = ("input_ids", "attention_mask")
"""What is known of each text."""


class PairEmbedding(Encoder):
    """AutoModel below a mean over its states, trained on pairs of texts."""

    texts: ClassVar[int] = 2

    def _head(self, build: Builder, config: Config) -> None:
        self._idle(build)

    def inputs(self, batch: Batch) -> Mapping[str, tuple[Shape, str]]:
        """The tokens and the mask of each text; the loss needs no labels."""
        shape = (batch.micro_batch_size, batch.sequence_length)
        return {f"{text}.{part}": (shape, "int64") for text in range(self.texts) for part in PARTS}

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The loss of the batch; until it is taken the states of all tokens have a name."""
        autocast = tape.autocast
        states: list[Tensor] = []
        vectors: list[Tensor] = []
        with tape.autocasting(None):
            for text in range(self.texts):
                own = {part: batch[f"{text}.{part}"] for part in PARTS}
                with tape.autocasting(autocast):
                    hidden = self.last_hidden_state(tape, regime, own)
                    self._pool_idly(tape, hidden)
                    states.append(hidden)
                    vectors.append(self._vector(tape, hidden))
            return Outputs(self._loss(tape, *vectors), [])

    def _vector(self, tape: Tape, hidden: Tensor) -> Tensor:
        pooled = expanded_mean(tape, hidden)
        return joined(tape, [pooled], pooled.shape)

    def _loss(self, tape: Tape, anchors: Tensor, *others: Tensor) -> Tensor:
        rows, size = anchors.shape
        found = len(others) * rows
        candidates = joined(tape, others, (found, size))
        labels = tape.empty((rows,), "int64", "labels")
        first, second = normalized(tape, anchors), normalized(tape, candidates)
        scores = e.linear_unary(tape, "mul", matmul(tape, first, second, (rows, found)))
        return cross_entropy(tape, scores, labels)


class TripletEmbedding(PairEmbedding):
    """The same, trained on triplets of texts."""

    texts: ClassVar[int] = 3
