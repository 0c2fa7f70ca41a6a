"""Heads that stand above any encoder (transformers 5.23 models/bert and those that copied from it)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from vramlint.job import Batch
from vramlint.memory.architectures.embedding_head import PairEmbedding, TripletEmbedding
from vramlint.memory.architectures.encoder import Encoder
from vramlint.memory.architectures.family import Config, Network, Outputs, label_count
from vramlint.memory.architectures.span_head import PLACES, span_inputs, span_outputs
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.softmax import cross_entropy
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Shape, Tensor
from vramlint.memory.weights import Builder


class TokenClassification(Encoder):
    """…ForTokenClassification."""

    def _head(self, build: Builder, config: Config) -> None:
        self.classes = label_count(config)
        self.classifier = build.linear("classifier", self.hidden, self.classes, bias=True, head=True)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The states are dropped, then classified."""
        hidden = self.last_hidden_state(tape, regime, batch)
        dropped = e.dropout(tape, hidden, self.classifier_dropout)
        logits = linear(tape, dropped, self.classifier)
        flat = logits.as_shape((logits.numel // self.classes, self.classes))
        return Outputs(cross_entropy(tape, flat, batch["labels"]), [logits])


class QuestionAnswering(Encoder):
    """…ForQuestionAnswering."""

    def _head(self, build: Builder, config: Config) -> None:
        self.answers = build.linear("qa_outputs", self.hidden, PLACES, bias=True, head=True)

    def inputs(self, batch: Batch) -> Mapping[str, tuple[Shape, str]]:
        """Tokens, mask, and the places where the answers start and end."""
        return span_inputs(super().inputs(batch), batch)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """Every state gets two logits."""
        hidden = self.last_hidden_state(tape, regime, batch)
        dropped = e.dropout(tape, hidden, self.answer_dropout)
        return span_outputs(tape, linear(tape, dropped, self.answers))


HEADS: Mapping[str, type[Network]] = MappingProxyType(
    {
        "token-cls": TokenClassification,  # type: ignore[type-abstract]  # they are mixed in
        "qa": QuestionAnswering,  # type: ignore[type-abstract]
        "embedding-pairs": PairEmbedding,  # type: ignore[type-abstract]
        "embedding-triplets": TripletEmbedding,  # type: ignore[type-abstract]
    }
)


@cache
def with_encoder_head(body: type[Network], task: str) -> type[Network]:
    """The class of an encoder with a head that stands above any."""
    head = HEADS[task]
    return type(f"{body.__name__}{head.__name__}", (head, body), {"__doc__": f"{body.__name__} with a head."})
