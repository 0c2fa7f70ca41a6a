"""Dynamic fine-tuning's loss over returned logits (trl 0.23 to 1.14: trainer/sft_trainer.py, `dft_loss`).

`selective_log_softmax` (trainer/utils.py) takes one sequence after the other: 16-bit logits through their likelihoods,
float32 ones through their log-sum-exp.
"""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.indexing import gather
from vramlint.memory.ops.softmax import log_softmax
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor

DYNAMIC = "dft"
"""Its name, by Objective.loss."""
LOSS = "logits and loss"


def dynamic_loss(tape: Tape, logits: Tensor) -> Tensor:
    """The loss of logits [B, S, V]."""
    batch, length = logits.shape[:2]
    padded = tape.empty((batch, length + 1), "int64", "pad")
    labels = tape.empty((batch, length), "int64", "shifted labels")
    mask = tape.empty((batch, length), "bool", "label mask")
    if logits.dtype == "float32":
        chosen = gather(tape, logits, labels, (batch, length))
        sums = [_log_sum_exp(tape, row) for row in _rows(tape, logits)]
        likelihoods = e.sub(tape, chosen, shaping.concatenate(tape, sums, (batch, length)))
    else:
        picked = [_picked(tape, row, labels) for row in _rows(tape, logits)]
        likelihoods = shaping.concatenate(tape, picked, (batch, length))
    weighted = e.linear_unary(tape, "mul", likelihoods)
    loss = e.sum_all(tape, e.mul(tape, weighted, mask))
    del padded
    return loss


def _rows(tape: Tape, logits: Tensor) -> list[Tensor]:
    """The sequences of a batch, one by one: views."""
    length, vocabulary = logits.shape[1:]
    return [row.as_shape((length, vocabulary)) for row in shaping.split_first(tape, logits, [1] * logits.shape[0])]


def _picked(tape: Tape, row: Tensor, labels: Tensor) -> Tensor:
    return gather(tape, log_softmax(tape, row), labels, (row.shape[0],))


def _log_sum_exp(tape: Tape, row: Tensor) -> Tensor:
    """`torch.logsumexp(row, -1)`: the exponentials are temporary, in both passes; keeps its input and result."""
    tape.scratch((row.nbytes,), "exp")
    length = row.shape[:1]
    return tape.apply("logsumexp", (row,), length, row.dtype, _log_sum_exp_backward, save=(row,), save_output=True)


def _log_sum_exp_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    row, _ = node.unpack(tape)
    if gradients[0] is None:
        return (None,)
    difference = e.like(tape, row, "sub")
    exponential = e.like(tape, row, "exp")
    result = tape.empty(row.shape, row.dtype, "mul backward", LOSS)
    del difference, exponential, row
    return (result,)
