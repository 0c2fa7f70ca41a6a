"""The classification head of encoder-decoders: over the decoder's states at end-of-sequence tokens.

transformers 5.23 models/bart/modeling_bart.py, BartForSequenceClassification; models/t5, mbart and plbart alike.
"""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.memory.architectures.family import Config, label_count, probability
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.selection import take_rows
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

NAME = "classification_head"


class EosHead:
    """Two linear layers with dropouts. PEFT does not take it for a classifier: it stays frozen under adapters."""

    def __init__(self, build: Builder, config: Config, size: int) -> None:
        self.dropout = probability(config, "classifier_dropout")
        self.dense = build.linear(f"{NAME}.dense", size, size, bias=True)
        self.out = build.linear(f"{NAME}.out_proj", size, label_count(config), bias=True)

    def __call__(self, tape: Tape, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Logits [B, labels] from states [B, T, H] of the decoder over `tokens`, with one end in each row."""
        ends = tape.empty(tokens.shape, "bool", "eos mask")
        chosen = take_rows(tape, hidden, ends, (tokens.shape[0], hidden.shape[2]))
        x = shaping.part(tape, chosen, chosen.shape)
        x = e.dropout(tape, x, self.dropout)
        x = linear(tape, x, self.dense)
        x = e.unary_of_result(tape, "tanh", x)
        x = e.dropout(tape, x, self.dropout)
        return linear(tape, x, self.out)


def with_three_labels(config: Config) -> Config:
    """BART's own default where the config does not say how many classes there are."""
    known = "num_labels" in config or isinstance(config.get("id2label"), Mapping)
    return config if known else {**config, "num_labels": 3}
