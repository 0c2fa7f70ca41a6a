"""Adapters that make another weight of the base's at every call.

peft 0.20 tuners/{hira,shira,peanut,glora,osf}/layer.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights, base, matmul, matmul_weight
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Shape, Tensor


class HadamardWeight(Struct):
    """HiRA: the base's weight times, element by element, a low-rank product."""

    first: Parameter
    second: Parameter
    dropout: float

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """`result + F.linear(dropout(x), weight * (A.T @ B.T).T)`."""
        result = base(tape, x, weights)
        dtype = result.dtype
        outputs, inputs = weights.weight.shape
        product = matmul(tape, self.first, self.second, (inputs, outputs))
        wide = e.dropout(tape, tape.to(x, self.first.dtype), self.dropout)
        changed = e.mul(tape, weights.weight, product.as_shape((outputs, inputs)))
        update = matmul_weight(tape, wide, changed, None)
        del changed
        return tape.to(e.add(tape, result, update), dtype)


class SparseWeight(Struct):
    """SHiRA: a copy of the base's weight with some entries changed."""

    entries: Parameter

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """`F.linear(x, weight.clone() + sparse)`; indices are 64-bit in a sparse tensor."""
        copy = tape.empty(weights.weight.shape, weights.weight.dtype, "clone")
        scaled = e.linear_unary(tape, "mul", self.entries)
        indices = tape.empty((2, self.entries.numel), "int64", "indices")
        changed = _with_entries(tape, copy, scaled, indices)
        return matmul_weight(tape, x, changed, weights.bias)


def _with_entries(tape: Tape, weight: Tensor, entries: Tensor, indices: Tensor) -> Tensor:
    """`weight += sparse`: the result lives in the memory of `weight`."""
    out = weight.as_shape(weight.shape)
    if tape.grad_enabled and entries.requires_grad:
        out.node, out.slot, out.requires_grad = tape.in_place((indices,), (entries,), _entries_backward), 0, True
    return out


def _entries_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,), edge = gradients, node.edges[0]
    out = None if gradient is None or edge is None else tape.empty(edge[2], edge[3], "index")
    del saved
    return (out,)


class ProducedDelta(Struct):
    """PEANuT: a delta that a small network makes of the base's weight; without layers between both factors."""

    first: Parameter
    """[r, out]."""
    second: Parameter
    """[out, r]."""

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """`result + x @ (B(act(weight.T @ A.T)) * scaling)`."""
        result = base(tape, x, weights)
        outputs, inputs = weights.weight.shape
        rank = self.first.shape[0]
        turned = tape.to(weights.weight, self.first.dtype).as_shape((inputs, outputs))
        hidden = e.unary_of_result(tape, "relu", matmul_weight(tape, turned, self.first, None))
        assert hidden.shape == (inputs, rank)  # noqa: S101  what the next product takes
        delta = e.linear_unary(tape, "mul", matmul_weight(tape, hidden, self.second, None))
        del hidden, turned
        wide = tape.to(x, delta.dtype)
        update = matmul_weight(tape, wide, delta, None, columns=True)
        return e.add(tape, result, tape.to(update, result.dtype))


class Paths(Struct):
    """GLoRA: factors and offsets of the weight, each a vector over its rows or a low-rank product."""

    factors: tuple[Parameter, ...]
    offsets: tuple[Parameter, ...]

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """`result + F.linear(x, weight + weight * A + B) - base`."""
        plain = base(tape, x, weights)
        dtype = weights.weight.dtype
        a, b = (tape.to(_path(tape, path, weights.weight.shape), dtype) for path in (self.factors, self.offsets))
        scaled = e.add(tape, weights.weight, e.mul(tape, weights.weight, a))
        changed = e.add(tape, scaled, b)
        del scaled
        adapted = matmul_weight(tape, x, changed, None)
        total = e.add(tape, plain, adapted)
        del adapted
        return e.sub(tape, total, e.linear_unary(tape, "mul", plain))


def _path(tape: Tape, parts: tuple[Parameter, ...], shape: Shape) -> Tensor:
    return parts[0] if len(parts) == 1 else matmul(tape, parts[0], parts[1], shape)


class SplitSingular(Struct):
    """OSF: the weight put together from singular vectors, the lesser of which train."""

    left: Parameter
    """[out, r]."""
    values: Parameter
    right: Parameter
    """[r, in]."""
    frozen: int
    """How many singular values do not train."""

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """`F.linear(x, (U_high * S_high) @ V_high + (U_low * S_low) @ V_low)`."""
        shape, dtype = weights.weight.shape, self.left.dtype
        scaled = tape.empty((shape[0], self.frozen), dtype, "mul", "temporaries")
        high = tape.empty(shape, dtype, "matmul")
        del scaled
        low = matmul(tape, e.mul(tape, self.left, self.values), self.right, shape)
        whole = e.add(tape, high, low)
        del high, low
        origin = x.dtype
        return tape.to(matmul_weight(tape, tape.to(x, dtype), whole, weights.bias), origin)
