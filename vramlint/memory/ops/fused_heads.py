"""Queries, keys and values that one layer makes together, taken apart without a copy."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor

PARTS = 3


def unbound_heads(tape: Tape, x: Tensor, heads: int, *, heads_first: bool) -> Sequence[Tensor]:
    """[B, S, 3·heads·d] seen as three of [B, heads, S, d], by `unbind`. Backward stacks the three gradients.

    `heads_first`: they were transposed before they were unbound, so the stack is copied once more to be viewed.
    """
    batch, length, width = x.shape
    shape = (batch, heads, length, width // heads // PARTS)
    parts = [x.as_shape(shape) for _ in range(PARTS)]
    if x.requires_grad and tape.grad_enabled:
        node = tape.view_node((x,), _stacked_again if heads_first else _stacked)
        if node is not None:
            node.outputs = PARTS
            for slot, part in enumerate(parts):
                part.node, part.slot = node, slot
    return parts


def _stacked(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    edge = node.edges[0]
    present = next((gradient for gradient in gradients if gradient is not None), None)
    if edge is None or present is None:
        return (None,)
    return (tape.empty(edge[2], present.dtype, "stack"),)


def _stacked_again(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (stacked,) = _stacked(tape, node, gradients)
    if stacked is None:
        return (None,)
    gradients[:] = [None] * len(gradients)
    return (tape.empty(stacked.shape, stacked.dtype, "reshape"),)


def chunked_heads(tape: Tape, x: Tensor, heads: int) -> Sequence[Tensor]:
    """[B, S, heads·3·d] with heads apart, then cut in three by `chunk(3, dim=-1)`.

    Backward: a concatenation with its heads first, which is copied to be viewed.
    """
    return unbound_heads(tape, x, heads, heads_first=True)
