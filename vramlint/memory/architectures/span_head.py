"""The head that marks an answer in a text: two logits for every position, one for its start and one for its end."""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.job import Batch
from vramlint.memory.architectures.family import Outputs
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.softmax import cross_entropy
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Shape, Tensor

PLACES = 2
"""The start and the end."""


def span_inputs(plain: Mapping[str, tuple[Shape, str]], batch: Batch) -> Mapping[str, tuple[Shape, str]]:
    """The places where the answers start and end instead of labels."""
    place = ((batch.micro_batch_size,), "int64")
    rest = {name: tensor for name, tensor in plain.items() if name != "labels"}
    return {**rest, "start_positions": place, "end_positions": place}


def span_outputs(tape: Tape, logits: Tensor) -> Outputs:
    """The mean of two cross entropies over the positions (transformers 5.23 models/bert, BertForQuestionAnswering)."""
    places = logits.shape[:2]
    start, end = (e.clone(tape, part.as_shape(places)) for part in shaping.split_last(tape, logits, (1, 1)))
    first = tape.empty((places[0],), "int64", "clamp")
    second = tape.empty((places[0],), "int64", "clamp")
    total = e.add(tape, cross_entropy(tape, start, first), cross_entropy(tape, end, second))
    return Outputs(e.linear_unary(tape, "div", total), [start, end])
