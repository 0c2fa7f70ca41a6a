"""AdaMSS: many small low-rank products behind one fixed projection (peft 0.20 tuners/adamss/layer.py)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.linear import Weights, base, matmul_weight
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor


class Subspaces(Struct):
    """Each makes its own part of the outputs; all of it in the dtype of the weight."""

    rank: int
    """Of the projection."""
    factors: tuple[tuple[Parameter, Parameter], ...]

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """`result + zeros.scatter(-1, index, cat(F.linear(F.linear(projected, A), B) for each))`."""
        origin, (_, inputs), dtype = x.dtype, weights.weight.shape, weights.weight.dtype
        x = wide = tape.to(x, dtype)
        if weights.bias is not None:
            inputs += 1
            ones = tape.empty((*x.shape[:-1], 1), dtype, "ones")
            wide = shaping.concatenate(tape, (x, ones), (*x.shape[:-1], inputs))
            del ones
        result = base(tape, x, weights)
        projected = matmul_weight(tape, wide, Tensor((self.rank, inputs), dtype, None), None)
        del wide
        parts = [self._part(tape, projected, first, second, dtype) for first, second in self.factors]
        delta = shaping.concatenate(tape, parts, result.shape)
        parts.clear()
        index = tape.empty((result.shape[-1],), "int64", "index")
        zeros = tape.empty(result.shape, delta.dtype, "zeros")
        scattered = tape.apply("scatter", (delta,), result.shape, delta.dtype, _gathered, save=(index,))
        del zeros, delta, projected
        return tape.to(e.add(tape, result, scattered), origin)

    @staticmethod
    def _part(tape: Tape, projected: Tensor, first: Parameter, second: Parameter, dtype: str) -> Tensor:
        low = matmul_weight(tape, projected, tape.to(first, dtype), None)
        return matmul_weight(tape, low, tape.to(second, dtype), None)


def _gathered(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    out = None if gradient is None else e.like(tape, gradient, "gather")
    del saved
    return (out,)
