"""Adapters that train vectors: IA³ and VeRA."""

from __future__ import annotations

from dataclasses import dataclass

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights, base, matmul_weight
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor


@dataclass(slots=True)
class Scaled:
    """IA³: a factor for every output or, of a feed-forward layer, every input (peft 0.21 tuners/ia3/layer.py)."""

    factors: Parameter
    scales_input: bool

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """Linear.forward."""
        scale = e.linear_unary(tape, "mul", self.factors).as_shape((self.factors.numel,))
        dtype = x.dtype
        if self.scales_input:
            wide = tape.to(x, self.factors.dtype)
            return base(tape, tape.to(e.mul(tape, wide, scale), dtype), weights)
        result = base(tape, x, weights)
        return tape.to(e.mul(tape, result, scale), result.dtype)


@dataclass(slots=True)
class SharedFactors:
    """VeRA: factors that all layers share and nobody trains, with two vectors (peft 0.21 tuners/vera/layer.py)."""

    inner: Parameter
    outer: Parameter
    dropout: float

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """Linear.forward: its slices of the shared factors are views."""
        dtype = x.dtype
        result = base(tape, x, weights)
        rank, (outputs, inputs) = self.inner.numel, weights.weight.shape
        first, second = Tensor((rank, inputs), self.inner.dtype, None), Tensor((outputs, rank), self.inner.dtype, None)
        wide = tape.to(x, self.inner.dtype)
        low = matmul_weight(tape, e.dropout(tape, wide, self.dropout), first, None)
        raised = matmul_weight(tape, e.mul(tape, self.inner, low), second, None)
        del low
        update = e.mul(tape, self.outer, raised)
        del raised
        return tape.to(tape.to(e.add(tape, result, update), result.dtype), dtype)
