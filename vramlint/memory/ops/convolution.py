"""Convolutions; the kernels' own workspaces are not known and left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Shape, Tensor

if TYPE_CHECKING:
    from vramlint.memory.weights import Builder


@dataclass(frozen=True, slots=True)
class Convolution:
    """Weight and bias of nn.Conv1d or nn.Conv2d."""

    weight: Parameter
    bias: Parameter

    @classmethod
    def of(cls, build: Builder, name: str, shape: Shape) -> Convolution:
        """Build `name.weight` of `shape` [out, in, *kernel] and `name.bias`."""
        return cls(build.parameter(f"{name}.weight", shape), build.parameter(f"{name}.bias", shape[:1], decay=False))

    def __call__(self, tape: Tape, x: Tensor, positions: int) -> Tensor:
        """From [B, in, …] to [B, out, positions]."""
        offset = tape.lower(self.bias)
        weight = tape.lower(self.weight)
        x = tape.lower(x)
        shape = (x.shape[0], weight.shape[0], positions)
        return tape.apply("convolution", (x, weight, offset), shape, x.dtype, _convolution_backward, save=(x, weight))


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
