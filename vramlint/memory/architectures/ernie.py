"""ERNIE: BERT with embeddings of the task (transformers 5.23 models/ernie)."""

from __future__ import annotations

from vramlint.memory.architectures.bert import Bert, BertForSequenceClassification
from vramlint.memory.architectures.family import Config, number
from vramlint.memory.architectures.masked_lm import MaskedLM
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class Ernie(Bert):
    """ErnieModel below a head."""

    def _tables(self, build: Builder, config: Config) -> None:
        super()._tables(build, config)
        tasks = number(config, "task_type_vocab_size", default=3) if config.get("use_task_id", False) else 0
        name = f"{self.prefix}.embeddings.task_type_embeddings.weight"
        self.task_table = build.parameter(name, (tasks, self.width)) if tasks else None

    def _added(self, tape: Tape, hidden: Tensor, tokens: Tensor) -> Tensor:
        if self.task_table is None:
            return hidden
        tasks = tape.empty(tokens.shape, "int64", "task type ids")
        return e.add_in_place(tape, hidden, embedding(tape, tasks, self.task_table))


class ErnieForMaskedLM(MaskedLM, Ernie):
    """ErnieForMaskedLM."""


class ErnieForSequenceClassification(BertForSequenceClassification, Ernie):
    """ErnieForSequenceClassification."""
