"""TRL's head of 1.4 to 1.14: the cross entropy of chunks of tokens, each under a checkpoint of its own.

trl 1.8 trainer/sft_trainer.py, `_chunked_cross_entropy_loss` and `_chunk`. All labels are taken to count.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from vramlint.job import Checkpointing
from vramlint.memory import checkpoint
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.linear import Weights, product
from vramlint.memory.ops.softmax import log_softmax_in_float32, mark_logits, nll_loss
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor

CHUNK = 256
"""Tokens of a chunk (`_CHUNKED_LM_HEAD_CHUNK_SIZE`)."""
SORTED_FROM = (1, 8)
"""Since then tokens without a label are put behind the others, before they were left out."""
NARROW_FROM = (1, 13)
"""Since then a chunk's logits are widened, before it was its hidden states and the whole weight."""

Finish = Callable[[Tape, list[Tensor]], Tensor]
"""What a model makes of the product with its head: a factor, a soft cap."""


def checkpointed_head(tape: Tape, hidden: Tensor, head: Weights, finish: Finish, trl: tuple[int, ...]) -> Tensor:
    """The loss of hidden states [B, S, H]."""
    batch, length, width = hidden.shape
    tokens = batch * (length - 1)
    rows = shaping.part(tape, hidden, (batch, length - 1, width))
    labels = Tensor((tokens,), "int64", None)
    if batch > 1:  # without the last position the rows of several sequences are no view any more
        rows = e.clone(tape, rows)
        labels = tape.empty((tokens,), "int64", "shifted labels")
    rows = rows.as_shape((tokens, width))
    valid = tape.empty((tokens,), "bool", "label mask")
    if trl >= SORTED_FROM:
        order = tape.empty((tokens,), "int64", "argsort")
        rows = shaping.index(tape, rows, rows.shape, (order,))
    else:
        rows = shaping.index(tape, rows, rows.shape, (valid,))
    labels = tape.empty((tokens,), "int64", "shifted labels")
    chunk = partial(_chunk, tape, finish, masks=trl >= SORTED_FROM, narrow=trl >= NARROW_FROM)
    loss = tape.empty((1,), "float32", "loss")
    for start in range(0, tokens, CHUNK):
        part = shaping.part(tape, rows, (min(CHUNK, tokens - start), width))
        inputs = (part, head.weight, head.bias, labels)
        (share,) = checkpoint.nonreentrant(tape, chunk, inputs, Checkpointing("nonreentrant"))
        loss = e.add(tape, loss, share)
    return loss


def _chunk(
    tape: Tape,
    finish: Finish,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    *,
    masks: bool,
    narrow: bool,
) -> tuple[Tensor]:
    if narrow:
        logits = tape.to(product(tape, hidden, tape.to(weight, hidden.dtype)), "float32")
    else:
        logits = product(tape, tape.to(hidden, "float32"), tape.to(weight, "float32"))
    if bias is not None:
        logits = e.add(tape, logits, tape.to(bias, "float32"))
    logits = finish(tape, [logits])
    mark_logits(tape, logits)
    likelihoods = log_softmax_in_float32(tape, logits)
    loss = nll_loss(tape, likelihoods, labels)
    _entropy(tape, likelihoods, masks=masks)
    return (loss,)


def _entropy(tape: Tape, likelihoods: Tensor, *, masks: bool) -> None:
    """A figure for the log, but part of the graph: the recomputation of a chunk goes as far as what it saves."""
    exponential = e.unary_of_result(tape, "exp", likelihoods)
    summed = e.sum_last(tape, e.mul(tape, exponential, likelihoods))
    if masks:
        e.mul(tape, summed, tape.empty(summed.shape, "bool", "label mask"))
