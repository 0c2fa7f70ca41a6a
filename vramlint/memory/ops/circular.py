"""Circular convolutions by Fourier transforms (peft 0.20 tuners/c3a/{layer,utils}.py)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights, base
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Shape, Tensor


class Circular(Struct):
    """C3A: every block of outputs is the sum of convolutions of the blocks of inputs."""

    kernel: Parameter
    """[blocks of outputs, blocks of inputs, size of a block]."""

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """`result += BlockCircularConvolution.apply(x.float(), kernel) / width`."""
        dtype = x.dtype
        result = base(tape, x, weights)
        wide = tape.to(x, "float32")
        shape = (*x.shape[:-1], weights.weight.shape[0])
        inputs = (wide, tape.to(self.kernel, "float32"))
        product = _product(tape, (wide.shape, self.kernel.shape), shape)
        back = tape.apply("fft", inputs, (*shape, 2), "float32", _convolution_backward, save=inputs)
        del product
        added = e.linear_unary(tape, "div", back.as_shape(shape))
        del back
        return tape.to(e.add_in_place(tape, result, tape.to(added, result.dtype)), dtype)


def _product(tape: Tape, factors: Sequence[Shape], shape: Shape) -> Tensor:
    """Of the transforms of two factors: complex numbers, two float32 each."""
    spectra = [tape.empty((*factor, 2), "float32", "fft", "temporaries") for factor in factors]
    ordered = [tape.empty((*factor, 2), "float32", "clone", "temporaries") for factor in factors]
    product = tape.empty((*shape, 2), "float32", "bmm", "temporaries")
    del spectra, ordered
    return product


def _convolution_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    x, kernel = (edge[2] if edge else () for edge in node.edges)
    spectrum = tape.empty((*gradient.shape, 2), "float32", "fft", "temporaries")
    results: list[Tensor | None] = [None, None]
    for position, other, own in ((0, kernel, x), (1, x, kernel)):
        if node.edges[position] is not None:
            product = _product(tape, (other,), own)
            results[position] = tape.empty((*own, 2), "float32", "fft", "temporaries").as_shape(own)
            del product
    del spectrum, saved
    return results
