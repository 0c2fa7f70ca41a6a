"""What TRL's SFTTrainer measures of the logits besides: token accuracy and entropy (trainer/sft_trainer.py)."""

from __future__ import annotations

from vramlint.memory.ops.softmax import mark_logits
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor

ACCURACY_FROM = (0, 15)
ENTROPY_FROM = (0, 22)
CHUNKED_ENTROPY_FROM = (0, 23)
"""Since then the entropy is taken of chunks of tokens, before of a whole sequence at once (trainer/utils.py)."""
SHIFTED_ENTROPY_FROM = (1, 3)
"""Since then of logits without the last position, copied once more for it."""
SHIFTED_VIEW_FROM = (1, 6)
"""Since then both figures share a view without the last position; the entropy flattens it."""
ENTROPY_CHUNK = 128


def token_metrics(tape: Tape, logits: Tensor, trl: tuple[int, ...]) -> None:
    """Take both figures of returned logits [B, S, V]."""
    batch, length, vocabulary = logits.shape
    if trl < ACCURACY_FROM:
        return
    shifted = (batch, length - 1, vocabulary)
    if trl >= SHIFTED_VIEW_FROM:
        flat = _copy(tape, logits, shifted)
        _entropies(tape, logits, min(ENTROPY_CHUNK, batch * (length - 1)))
        del flat
        tape.scratch((8 * batch * (length - 1),), "argmax")
        return
    copy = _copy(tape, logits, shifted) if trl >= SHIFTED_ENTROPY_FROM else None
    if trl >= CHUNKED_ENTROPY_FROM:
        _entropies(tape, logits, min(ENTROPY_CHUNK, batch * length))
    elif trl >= ENTROPY_FROM:
        _entropies(tape, logits, length)
    again = _copy(tape, logits, shifted)
    tape.scratch((8 * batch * (length - 1),), "argmax")
    del copy, again


def _copy(tape: Tape, logits: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The logits without the last position, in one piece: of a single sequence a view."""
    if logits.shape[0] == 1:
        return logits.as_shape(shape)
    copy = tape.empty(shape, logits.dtype, "contiguous")
    mark_logits(tape, copy)
    return copy


def _entropies(tape: Tape, logits: Tensor, tokens: int) -> None:
    """`-(exp(log_softmax(chunk)) * log_softmax(chunk)).sum(-1)` of `tokens` at a time."""
    chunk = Tensor((tokens, logits.shape[-1]), logits.dtype, None)
    tape.scratch([chunk.nbytes] * 3, "entropy")
