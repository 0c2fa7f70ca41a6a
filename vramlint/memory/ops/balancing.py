"""The auxiliary loss that balances experts, load_balancing_loss_func (transformers models/mixtral and its copies)."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.lifetimes import Kept
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.selection import joined, topk
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor


def balancing_loss(tape: Tape, logits: Sequence[Kept], chosen: int, mask: Tensor | None) -> Tensor:
    """From logits [T, experts] of every layer (5.23): counts and sums of probabilities, layer by layer.

    `mask` is the attention_mask [B, S]. Every layer's part is executed in its unit, as often as the layer.
    """
    tokens, experts = logits[0].tensor.shape
    counts = tape.empty((experts,), "float32", "zeros")
    sums = tape.empty((experts,), "float32", "zeros")
    flat = None if mask is None else tape.empty((tokens,), "float32", "to")
    for gate, unit in logits:
        with tape.course.within(unit):
            weights = softmax(tape, gate, in_float32=False)
            _, selected = topk(tape, weights, chosen)
            if flat is None:
                tape.scratch((4 * tokens * chosen, 4 * experts), "histc")
                part = tape.to(weights, "float32")
            else:
                tape.scratch((4 * experts, 4 * tokens * chosen), "scatter_add")
                part = e.mul(tape, tape.to(weights, "float32"), flat.as_shape((tokens, 1)))
            sums = e.add(tape, sums, _sum_over_rows(tape, part))
            del part
    del counts, weights, selected, _
    return _summed(tape, sums)


def balancing_loss_at_once(
    tape: Tape, logits: Sequence[Tensor], layers: int, chosen: int, mask: Tensor | None
) -> Tensor:
    """The form before transformers 5 (4.57): all layers' logits in one tensor, and a number for every expert's chance.

    `layers` is the number of layers whose logits they are, equal ones among them counted.
    """
    tokens, experts = logits[0].shape
    rows = layers * tokens
    joint = joined(tape, logits, (rows, experts))
    weights = softmax(tape, joint, in_float32=False)
    values, selected = topk(tape, weights, chosen)
    hot = tape.empty((rows, chosen, experts), "int64", "one_hot")
    if mask is None:
        tape.scratch((4 * rows * chosen * experts,), "to")
        sums = _sum_over_rows(tape, weights)
        del joint, values, selected, hot
        return _summed(tape, sums)
    wide_mask = tape.empty((rows, chosen, experts), "int64", "expand")
    tape.scratch((4 * rows * chosen * experts, 4 * rows * chosen * experts), "mul")
    narrow_mask = tape.empty((rows, experts), "int64", "expand")
    sums = _sum_over_rows(tape, _masked(tape, weights, narrow_mask))
    del joint, values, selected, hot, wide_mask
    return _summed(tape, sums)


def _masked(tape: Tape, x: Tensor, mask: Tensor) -> Tensor:
    """`x * mask` by whole numbers."""
    return tape.apply("mul", (x,), x.shape, x.dtype, _masked_backward, save=(mask,))


def _masked_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    result = None if gradient is None else e.like(tape, gradient, "mul backward")
    del saved
    return (result,)


def _sum_over_rows(tape: Tape, x: Tensor) -> Tensor:
    """`x.sum(dim=0)` of [rows, experts]. Backward: an expanded view."""
    return tape.apply("sum", (x,), (x.shape[1],), x.dtype, _expanded_backward)


def _expanded_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    edge = node.edges[0]
    return (None if gradient is None or edge is None else gradient.as_shape(edge[2]),)


def _summed(tape: Tape, sums: Tensor) -> Tensor:
    """The sum over experts, times constants."""
    return tape.apply("sum", (sums,), (1,), "float32", _expanded_backward)
