"""Adapters that make a dense weight at every call: peft 0.21 tuners/{loha,lokr,fourierft}/layer.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights, base, matmul_weight
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Shape, Tensor

Results = Sequence["Tensor | None"]


class Delta(Protocol):
    """What makes the weight."""

    def __call__(self, tape: Tape, shape: Shape) -> Tensor:
        """The weight [out, in]."""


class DenseDelta(Struct):
    """`base(x) + F.linear(x, delta)`, cast back to the dtype of x."""

    delta: Delta

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """Linear.forward."""
        dtype = x.dtype
        result = base(tape, x, weights)
        result = e.add(tape, result, self._update(tape, x, weights.weight.shape))
        return tape.to(result, dtype)

    def _update(self, tape: Tape, x: Tensor, shape: Shape) -> Tensor:
        delta = self.delta(tape, shape)
        wide = tape.to(x, delta.dtype)
        return matmul_weight(tape, wide, delta, None)


class Hadamard(Struct):
    """LoHa: the product of two low-rank products, element by element; only the factors are kept (HadaWeight)."""

    factors: tuple[Parameter, Parameter, Parameter, Parameter]

    def __call__(self, tape: Tape, shape: Shape) -> Tensor:
        """`((w1a @ w1b) * (w2a @ w2b)) * scale`."""
        dtype = tape.autocast or self.factors[0].dtype
        casts = [tape.empty(factor.shape, dtype, "to") for factor in self.factors] if tape.autocast else []
        parts = [tape.empty(shape, dtype, "matmul", "temporaries") for _ in ("first", "second")]
        product = tape.empty(shape, dtype, "mul", "temporaries")
        parts.clear()
        out = tape.apply("mul", self.factors, shape, dtype, _hadamard_backward, save=self.factors)
        del product, casts
        return out


def _hadamard_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    factors = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return [None] * len(factors)
    wide = factors[0].dtype
    scaled = e.like(tape, gradient, "mul")
    results: list[Tensor | None] = []
    shared = None
    for pair in (factors[:2], factors[2:]):
        product = tape.empty(gradient.shape, wide, "matmul", "temporaries")
        other = tape.empty(gradient.shape, wide, "mul", "temporaries")
        shared = other
        del product, other
        results += [tape.empty(factor.shape, wide, "matmul backward") for factor in pair]
    del scaled, shared, factors
    return results


class Kronecker(Struct):
    """LoKr: the Kronecker product of two matrices, each whole or in two factors."""

    first: tuple[Parameter, ...]
    second: tuple[Parameter, ...]

    def __call__(self, tape: Tape, shape: Shape) -> Tensor:
        """`torch.kron(w1, w2) * scale`."""
        first, second = _whole(tape, self.first), _whole(tape, self.second)
        dtype = e.promoted(first, second)
        product = tape.apply("mul", (first, second), shape, dtype, _kron_backward, save=(first, second))
        return e.linear_unary(tape, "mul", product)


def _whole(tape: Tape, factors: tuple[Parameter, ...]) -> Tensor:
    if len(factors) == 1:
        return factors[0]
    left, right = factors
    right_low = tape.lower(right)
    left_low = tape.lower(left)
    shape = (left.shape[0], right.shape[1])
    inputs = (left_low, right_low)
    return tape.apply("matmul", inputs, shape, left_low.dtype, _factors_backward, save=inputs)


def _factors_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    saved = node.unpack(tape)
    (gradient,) = gradients
    results: list[Tensor | None] = [None, None]
    for position in (1, 0):
        edge = node.edges[position]
        if gradient is not None and edge is not None:
            results[position] = tape.empty(edge[2], gradient.dtype, "matmul backward")
    del saved
    return results


def _kron_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    """Both products are as large as the result; the engine sums them to their factors."""
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    results = [e.like(tape, gradient, "mul backward") for _ in node.edges]
    del saved
    return results


class Spectrum(Struct):
    """FourierFT: the inverse transform of a matrix with a few trained entries."""

    entries: Parameter

    def __call__(self, tape: Tape, shape: Shape) -> Tensor:
        """`torch.fft.ifft2(dense_spectrum).real * scaling`; the indices come from the host."""
        places = tape.empty((2, *self.entries.shape), "int64", "indices")
        dense = tape.apply("index_put", (self.entries,), shape, "float32", _entries_backward, save=(places,))
        complex_in = tape.apply("to", (dense,), shape, "complex64", _real_backward)
        del dense
        out = tape.apply("fft", (complex_in,), shape, "complex64", _transform_backward)
        del complex_in
        return e.linear_unary(tape, "mul", _real_part(tape, out))


def _real_part(tape: Tape, x: Tensor) -> Tensor:
    """`x.real`: a view."""
    out = Tensor(x.shape, "float32", x.storage)
    out.view, out.requires_grad = True, x.requires_grad
    if x.requires_grad and tape.grad_enabled:
        out.node = tape.view_node((x,), _complex_backward)
    return out


def _entries_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    saved = node.unpack(tape)
    (gradient,), edge = gradients, node.edges[0]
    out = None if gradient is None or edge is None else tape.empty(edge[2], gradient.dtype, "index")
    del saved
    return (out,)


def _transform_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    (gradient,) = gradients
    return (None if gradient is None else tape.empty(gradient.shape, "complex64", "fft backward"),)


def _complex_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    (gradient,) = gradients
    return (None if gradient is None else tape.empty(gradient.shape, "complex64", "select backward"),)


def _real_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    """The real part is a view."""
    (gradient,) = gradients
    if gradient is None:
        return (None,)
    out = Tensor(gradient.shape, "float32", gradient.storage)
    out.view = True
    return (out,)
