"""MiSS: the inputs' shards are summed before one matrix (peft 0.21 tuners/miss/layer.py)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights, joined, matmul_weight
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor


class Shards(Struct):
    """The block is [r, out]."""

    block: Parameter
    dropout: float
    repeats: bool = False
    """The block has fewer columns, and is repeated to as many as there are outputs (the form `mini`)."""

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """`result + torch.sum(dropout(x).reshape(…, in / r, r), dim=-2) @ block`, of a width that r divides."""
        dtype = x.dtype
        result = joined(tape, x, weights)
        block: Tensor = self.block
        if self.repeats:
            shape = (self.block.shape[0], weights.out_features)
            block = tape.apply("repeat", (block,), shape, block.dtype, _repeat_backward)
        wide = tape.to(x, self.block.dtype)
        result = e.add(tape, result, self._update(tape, e.dropout(tape, wide, self.dropout), block))
        return tape.to(result, dtype)

    def _update(self, tape: Tape, x: Tensor, block: Tensor) -> Tensor:
        wide = tape.upper(x)
        shape = (*wide.shape[:-1], self.block.shape[0])
        summed = tape.apply("sum", (wide,), shape, wide.dtype, _backward)
        return matmul_weight(tape, summed, block, None, columns=True)


def _backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """The expanded gradient, which is a copy once it is seen as an input."""
    (gradient,), edge = gradients, node.edges[0]
    return (None if gradient is None or edge is None else tape.empty(edge[2], gradient.dtype, "sum backward"),)


def _repeat_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """The sum over the copies."""
    (gradient,), edge = gradients, node.edges[0]
    return (None if gradient is None or edge is None else tape.empty(edge[2], gradient.dtype, "sum"),)
