"""The Trainer's label smoothing (transformers 5.23 trainer_pt_utils.py, LabelSmoother): a loss over returned logits."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.softmax import log_softmax, mark_logits, shifted_copy
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor

LOGITS = "logits and loss"


def smoothed_loss(tape: Tape, logits: Tensor, labels: Tensor, *, shifts: bool) -> Tensor:
    """The mix of the likelihoods of labels and of all tokens; outside autocast, in the logits' dtype.

    `shifts`: a causal model's logits [B, S, V] are first copied without the last position.
    """
    if shifts:
        logits = shifted_copy(tape, logits)
        labels = tape.empty(logits.shape[:-1], "int64", "shifted labels")
    scores = e.linear_unary(tape, "neg", log_softmax(tape, logits))
    mark_logits(tape, scores)
    column = (*scores.shape[:-1], 1)
    padding = tape.empty(column, "bool", "padding mask")
    labels = tape.empty(column, "int64", "clamped labels")
    likelihood = tape.apply("gather", (scores,), column, scores.dtype, _gather_backward, save=(scores, labels))
    overall = tape.apply("sum", (scores,), column, "float32", _sum_backward)
    likelihood = _without_padding(tape, likelihood, padding)
    overall = _without_padding(tape, overall, padding)
    return e.add(tape, _total(tape, likelihood), _total(tape, overall))


def _without_padding(tape: Tape, x: Tensor, padding: Tensor) -> Tensor:
    """`x.masked_fill_(padding, 0)`: in place; keeps the mask."""
    out = x.as_shape(x.shape)
    out.node = tape.in_place((padding,), (x,), _fill_backward)
    return out


def _total(tape: Tape, x: Tensor) -> Tensor:
    return tape.apply("sum", (x,), (1,), x.dtype, _expand_backward)


def _expand_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """A view of the scalar's gradient."""
    (gradient,) = gradients
    edge = node.edges[0]
    return (None if gradient is None or edge is None else gradient.as_shape(edge[2]),)


def _fill_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    return (None if gradient is None else e.like(tape, gradient, "masked_fill"),)


def _gather_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """Zeros of the logits' shape, into which the gradient is scattered."""
    saved = node.unpack(tape)
    edge = node.edges[0]
    result = None if edge is None else tape.empty(edge[2], edge[3], "gather backward", LOGITS)
    del saved
    return (result,)


def _sum_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """An expanded view; a 16-bit input's gradient is cast by the engine, which writes it out."""
    (gradient,) = gradients
    edge = node.edges[0]
    return (None if gradient is None or edge is None else gradient.as_shape(edge[2]),)
