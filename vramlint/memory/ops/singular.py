"""AdaLoRA: an adapter in the form of a singular value decomposition (peft 0.21 tuners/adalora/layer.py)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights, joined, matmul_weight, product
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor


class Singular(Struct):
    """A is [r, in], B [out, r], the values [r, 1]; the rank is a number on the device."""

    a: Parameter
    b: Parameter
    values: Parameter
    rank: Tensor
    dropout: float

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """SVDLinear.forward: `result += (dropout(x) @ (A * E).T @ B.T) * scaling / rank`.

        Over 8 bits not in place (tuners/adalora/bnb.py); over quantized weights the product is cast back, not the sum.
        """
        result = joined(tape, x, weights)
        rank = e.add_number(tape, self.rank)
        quantized = weights.packed is not None
        wide = x if quantized and tape.autocast is not None else tape.to(x, self.a.dtype)
        dropped = e.dropout(tape, wide, self.dropout)
        low = matmul_weight(tape, dropped, e.mul(tape, self.a, self.values), None)
        del dropped
        raised = product(tape, low, self.b)
        del low
        if quantized and tape.autocast is None:
            raised = tape.to(raised, result.dtype)
        scaled = e.linear_unary(tape, "mul", raised)
        del raised
        if rank.requires_grad:
            dtype = e.promoted(scaled, rank)
            update = tape.apply("div", (scaled, rank), scaled.shape, dtype, _backward, save=(scaled, rank))
        else:
            update = e.divided(tape, scaled, rank)
        del scaled
        if quantized and not weights.joining.clones:
            return e.add(tape, result, update)
        return e.add_in_place(tape, result, update)


def _backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """That of the divisor is `-gradient * (dividend / divisor / divisor)`."""
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    first = e.like(tape, gradient, "div backward")
    terms = [e.like(tape, gradient, "div backward") for _ in ("quotient", "negative")]
    product = e.like(tape, gradient, "mul")
    terms.clear()
    second = e.like(tape, product, "div backward")
    del product, saved
    return (first, second)


def penalised(tape: Tape, loss: Tensor, factors: Sequence[Parameter]) -> Tensor:
    """`loss += weight * mean of norm(p @ p.T - I)` (AdaLoraModel.forward)."""
    total: Tensor | None = None
    for factor in factors:
        with tape.course.within(tape.course.unit_of(factor.layer)):
            norm = _distance(tape, factor)
            total = norm if total is None else e.add(tape, total, norm)
    return loss if total is None else e.add_in_place(tape, loss, e.linear_unary(tape, "mul", total))


def _distance(tape: Tape, factor: Parameter) -> Tensor:
    """How far the factor's rows, or columns, are from being orthonormal."""
    rank = min(factor.shape)
    matrix = factor if tape.autocast is None else tape.to(factor, tape.autocast)
    other = tape.lower(factor)
    product = tape.apply("linear", (other, matrix), (rank, rank), other.dtype, _product_backward, save=(other, matrix))
    difference = e.like(tape, product, "eye")
    difference = e.sub(tape, product, difference)
    del product
    wide = tape.upper(difference)
    return tape.apply("norm", (wide,), (), wide.dtype, _norm_backward, save=(wide,), save_output=True)


def _product_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    results = [
        None if edge is None or gradient is None else tape.empty(edge[2], gradient.dtype, "linear backward")
        for edge in node.edges
    ]
    del saved
    return results


def _norm_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    x, _ = node.unpack(tape)
    out = e.like(tape, x, "norm backward")
    del x, gradients
    return (out,)
