"""Parameters that an adapter changes before the module uses them (peft 0.21 tuners/lora/layer.py, ParamWrapper)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Packed, Weights, matmul, matmul_weight
from vramlint.memory.ops.low_rank import LowRank
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor


class Target(Struct):
    """A parameter that is no linear layer's weight, and the adapter that is added to it."""

    weight: Parameter
    adapter: LowRank | None = None
    packed: Packed | None = None
    """The form in which the weight is quantized: a parametrization of torch's dequantizes it."""

    def factors(self, tape: Tape) -> tuple[Tensor, ...]:
        """What the wrapper makes when the module is called: both factors, or their product for a matrix.

        To register it, torch's parametrization merges once for a look at the result.
        """
        if self.adapter is None:
            return ()
        dtype = self.weight.dtype
        made: tuple[Tensor, ...]
        if len(self.weight.shape) == 3:
            made = (tape.to(self.adapter.b, dtype), tape.to(self.adapter.a, dtype))
        else:
            product = e.linear_unary(tape, "mul", matmul(tape, self.adapter.b, self.adapter.a, self.weight.shape))
            made = (tape.to(product, dtype),)
        tape.scratch((self.weight.nbytes,), "merged weight")
        return made

    def merged(self, tape: Tape, factors: Sequence[Tensor]) -> Tensor:
        """The parameter as the module sees it; it is kept until the module returns."""
        if self.packed is not None:
            return tape.became_input(self.packed.dense(tape, self.weight))
        if not factors:
            return self.weight
        if len(factors) == 1:
            return e.add(tape, self.weight, factors[0])
        inputs, shape = (self.weight, *factors), self.weight.shape
        return tape.apply("baddbmm", inputs, shape, self.weight.dtype, _baddbmm_backward, save=factors)


class MergedLinear(Struct):
    """An adapter that is added to a linear layer's weight."""

    target: Target

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """The layer with the merged weight, made anew at every call."""
        return matmul_weight(tape, x, self.target.merged(tape, self.target.factors(tape)), weights.bias)


def _baddbmm_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """The base passes the gradient on; each factor's is `maybe_multiply(product, alpha)`."""
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None, None)
    results: list[Tensor | None] = [gradient if node.needs(0) else None, None, None]
    for position in (1, 2):
        edge = node.edges[position]
        if edge is not None:
            product = tape.empty(edge[2], gradient.dtype, "baddbmm backward")
            results[position] = e.like(tape, product, "mul")
            del product
    del saved
    return results
