"""Convolutions; the kernels' own workspaces are not known and left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Shape, Tensor

if TYPE_CHECKING:
    from vramlint.memory.weights import Builder


class LowRankConvolution(Struct, frozen=True):
    """LoRA of a convolution: A is [r, in, *kernel], B [out, r, 1, …] (peft 0.21 tuners/lora/layer.py, _ConvNd)."""

    a: Parameter
    b: Parameter
    dropout: float

    def __call__(self, tape: Tape, x: Tensor, result: Tensor, positions: int) -> Tensor:
        """`result + B(A(dropout(x))) * scaling`, cast back."""
        wide = tape.to(x, self.a.dtype)
        low = convolve(tape, e.dropout(tape, wide, self.dropout), self.a, None, positions)
        raised = convolve(tape, low, self.b, None, positions)
        del low
        update = e.linear_unary(tape, "mul", raised)
        del raised
        return tape.to(e.add(tape, result, update), result.dtype)


class Convolution(Struct, frozen=True):
    """Weight and bias of nn.Conv1d or nn.Conv2d."""

    weight: Parameter
    bias: Parameter | None
    adapter: LowRankConvolution | None = None

    @classmethod
    def of(cls, build: Builder, name: str, shape: Shape, *, bias: bool = True, grouped: bool = False) -> Convolution:
        """Build `name.weight` of `shape` [out, in, *kernel] and `name.bias`; `grouped`: of a group's inputs alone."""
        weight = build.parameter(f"{name}.weight", shape)
        offset = build.parameter(f"{name}.bias", shape[:1], decay=False) if bias else None
        factors = build.adapted.on_convolution(name, shape, grouped=grouped)
        return cls(weight, offset, LowRankConvolution(*factors, build.adapted.dropout) if factors else None)

    def __call__(self, tape: Tape, x: Tensor, positions: int) -> Tensor:
        """From [B, in, …] to [B, out, positions]."""
        out = convolve(tape, x, self.weight, self.bias, positions)
        return out if self.adapter is None else self.adapter(tape, x, out, positions)


class NormedConvolution(Struct, frozen=True):
    """A convolution whose weight is a direction times a length (nn.utils.parametrizations.weight_norm)."""

    length: Parameter
    direction: Parameter
    bias: Parameter

    @classmethod
    def of(cls, build: Builder, name: str, shape: Shape) -> NormedConvolution:
        """Build the parts of `name.weight` of `shape` [out, in, kernel], normalised for each tap, and `name.bias`."""
        part = f"{name}.parametrizations.weight"
        return cls(
            build.parameter(f"{part}.original0", (1, 1, shape[2])),
            build.parameter(f"{part}.original1", shape),
            build.parameter(f"{name}.bias", shape[:1], decay=False),
        )

    def __call__(self, tape: Tape, x: Tensor, positions: int) -> Tensor:
        """The weight is made anew at every call."""
        inputs = (self.direction, self.length)
        norms = (self.length.shape, "float32", "weight_norm")
        shape, dtype = self.direction.shape, self.direction.dtype
        weight = tape.apply("weight_norm", inputs, shape, dtype, _convolution_backward, save=inputs, results=(norms,))
        return convolve(tape, x, weight, self.bias, positions)


def convolve(tape: Tape, x: Tensor, weight: Tensor, bias: Tensor | None, positions: int) -> Tensor:
    """F.conv1d or F.conv2d: from [B, in, …] to [B, out, positions]."""
    offset = None if bias is None else tape.lower(bias)
    kernel = tape.lower(weight)
    pixels = tape.lower(x)
    inputs = (pixels, kernel) if offset is None else (pixels, kernel, offset)
    shape = (x.shape[0], weight.shape[0], positions)
    return tape.apply("convolution", inputs, shape, pixels.dtype, _convolution_backward, save=(pixels, kernel))


def max_pool(tape: Tape, x: Tensor, positions: int) -> Tensor:
    """F.max_pool2d: keeps its input and the places that it took."""
    shape = (*x.shape[:2], positions)
    places = (shape, "int64", "max_pool indices")
    return tape.apply("max_pool", (x,), shape, x.dtype, _convolution_backward, save=(x,), results=(places,))


def _convolution_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return [None] * len(node.edges)
    results = [
        None if edge is None else tape.empty(edge[2], gradient.dtype, "convolution backward") for edge in node.edges
    ]
    del saved
    return results
