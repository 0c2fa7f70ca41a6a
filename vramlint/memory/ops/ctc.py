"""The CTC loss (torch 2.13 aten/src/ATen/native/cuda/LossCTC.cu)."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.ops.softmax import DEFERRED, log_softmax
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor


def ctc_loss(tape: Tape, logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of logits [B, T, V] and labels [B, U]: float32 log-probabilities, and a lattice of U and its blanks."""
    if tape.defers_loss:
        return DEFERRED
    batch, length, _ = logits.shape
    mask = tape.empty(labels.shape, "bool", "labels mask")
    targets = tape.empty((labels.numel,), "int64", "masked_select")
    log_probabilities = log_softmax(tape, tape.to(logits, "float32"))
    lattice = ((batch, length, 2 * labels.shape[1] + 1), "float32", "ctc alpha")
    save = (log_probabilities, targets)
    loss = tape.apply(
        "ctc_loss", (log_probabilities,), (batch,), "float32", _ctc_backward, save=save, results=(lattice,)
    )
    del mask
    return loss


def _ctc_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    beta = tape.empty(saved[2].shape, "float32", "ctc beta", "temporaries")
    result = tape.empty(edge[2], "float32", "ctc backward")
    del saved, beta
    return (result,)
