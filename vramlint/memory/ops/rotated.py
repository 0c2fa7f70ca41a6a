"""OFT: the input is rotated, block by block, before the layer takes it (peft 0.21 tuners/oft/layer.py)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.linear import Weights, base, matmul
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor

NEUMANN_TERMS = 5
"""Of the series that stands for Cayley's inverse."""


class Rotated(Struct):
    """The upper triangles of skew-symmetric blocks [r, size · (size - 1) / 2]."""

    triangles: Parameter
    size: int

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """Linear.forward with OFTRotationModule."""
        return base(tape, self._rotated(tape, x), weights)

    def _rotated(self, tape: Tape, x: Tensor) -> Tensor:
        dtype = x.dtype
        wide = tape.to(x, self.triangles.dtype)
        rotation = self._cayley(tape)
        blocks, rows = self.triangles.shape[0], wide.numel // wide.shape[-1]
        by_block = shaping.viewed(tape, wide, (blocks, rows, self.size))
        turned = matmul(tape, by_block, rotation, by_block.shape)
        flat = shaping.reordered(tape, turned, x.shape)
        del turned
        return tape.to(flat, dtype)

    def _cayley(self, tape: Tape) -> Tensor:
        """`(I + Q)(I - Q)⁻¹` as a series of powers, added in place."""
        shape = (self.triangles.shape[0], self.size, self.size)
        upper = tape.apply("index_put", (self.triangles,), shape, self.triangles.dtype, _triangle_backward)
        skew = tape.apply("sub", (upper,), shape, upper.dtype, _skew_backward)
        del upper
        total = tape.empty(shape, skew.dtype, "repeat")
        total = _add_twice(tape, total, skew)
        power = skew
        for term in range(2, NEUMANN_TERMS):
            power = matmul(tape, power, skew, shape)
            total = e.add_in_place(tape, total, power) if term == NEUMANN_TERMS - 1 else _add_twice(tape, total, power)
        return total


def _add_twice(tape: Tape, total: Tensor, power: Tensor) -> Tensor:
    """`total.add_(power, alpha=2)`."""
    out = total.as_shape(total.shape)
    if tape.grad_enabled:
        out.node, out.slot, out.requires_grad = tape.view_node((total, power), _twice_backward), 0, True
    return out


def _twice_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    second = e.like(tape, gradient, "mul") if node.needs(1) else None
    return (gradient if node.needs(0) else None, second)


def _skew_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """Of `Q - Qᵀ`: the gradient and its negative, added."""
    (gradient,) = gradients
    if gradient is None:
        return (None,)
    negative = e.like(tape, gradient, "neg")
    out = e.like(tape, gradient, "add")
    del negative
    return (out,)


def _triangle_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,), edge = gradients, node.edges[0]
    return (None if gradient is None or edge is None else tape.empty(edge[2], gradient.dtype, "index"),)
