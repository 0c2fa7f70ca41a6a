"""torchtune's losses over chunks of tokens (torchtune 0.7 modules/loss/{cross_entropy,ce_chunked_output}_loss.py).

All labels are taken to count.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from vramlint.job import Checkpointing
from vramlint.memory import checkpoint
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import inductor, shaping
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.softmax import cross_entropy, mark_logits
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor

WITH_HEAD, LOGITS = "chunked-head", "chunked-logits"
"""LinearCrossEntropyLoss and CEWithChunkedOutputLoss, by Objective.loss."""
BY_CHUNK = "chunked-backward"
"""torchtitan's ChunkedLossWrapper (torchtitan 0.3 components/loss.py): every chunk's backward follows its forward."""
CHUNKS = 8
"""`num_output_chunks` of both."""


def with_head(tape: Tape, hidden: Tensor, head: Weights) -> Tensor:
    """LinearCrossEntropyLoss of hidden states [B, S, H]: every chunk's log-probabilities wait for backward."""
    batch, length, width = hidden.shape
    rows = hidden.as_shape((batch * length, width))
    valid = tape.empty((batch * length,), "int64", "indices of labels")
    rows = shaping.index(tape, rows, rows.shape, (valid,))
    loss = tape.empty((1,), "float32", "loss")
    for tokens in _sizes(batch * length):
        loss = e.add(tape, loss, _loss_of_chunk(tape, shaping.part(tape, rows, (tokens, width)), head))
    return loss


def by_chunk(tape: Tape, hidden: Tensor, head: Weights) -> Tensor:
    """ChunkedLossWrapper of hidden states [B, S, H]: as if each chunk were a checkpoint, for nothing of it waits."""
    batch, length, width = hidden.shape
    rows = hidden.as_shape((batch * length, width))
    loss = tape.empty((1,), "float32", "loss")
    for tokens in _sizes(batch * length):
        part = e.clone(tape, shaping.part(tape, rows, (tokens, width)))
        segment = partial(_checkpointed, tape, head)
        (share,) = checkpoint.nonreentrant(tape, segment, (part,), Checkpointing("nonreentrant"))
        loss = e.add(tape, loss, share)
    return loss


def _checkpointed(tape: Tape, head: Weights, hidden: Tensor | None) -> tuple[Tensor]:
    if hidden is None:
        raise ValueError("a chunk has no hidden states")
    return (_loss_of_chunk(tape, hidden, head),)


def _loss_of_chunk(tape: Tape, hidden: Tensor, head: Weights) -> Tensor:
    """`compute_cross_entropy`: its logits live until it returns."""
    logits = linear(tape, hidden, head)
    mark_logits(tape, logits)
    return _cross_entropy(tape, logits)


def of_logits(tape: Tape, hidden: Tensor, head: Weights) -> Tensor:
    """CEWithChunkedOutputLoss: the model's output are the logits of all chunks, one after the other made float32."""
    batch, length, width = hidden.shape
    outputs = []
    for tokens in _sizes(length):
        logits = linear(tape, shaping.part(tape, hidden, (batch, tokens, width)), head)
        mark_logits(tape, logits)
        outputs.append(logits)
    loss = tape.empty((1,), "float32", "loss")
    for logits in outputs:
        loss = e.add(tape, loss, _cross_entropy(tape, logits))
    return loss


def _cross_entropy(tape: Tape, logits: Tensor) -> Tensor:
    if tape.compiled:
        return inductor.cross_entropy(tape, logits)
    wide = tape.to(logits, "float32")
    mark_logits(tape, wide)
    tokens = 1
    for size in logits.shape[:-1]:
        tokens *= size
    return cross_entropy(tape, wide.as_shape((tokens, logits.shape[-1])), Tensor((tokens,), "int64", None))


def _sizes(tokens: int) -> Iterator[int]:
    """The chunks of `tensor_split(8)` that are not empty."""
    for number in range(CHUNKS):
        size = tokens // CHUNKS + (number < tokens % CHUNKS)
        if size:
            yield size
