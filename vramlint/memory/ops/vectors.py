"""Adapters that train vectors."""

from __future__ import annotations

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.linear import Weights, base, joined, matmul_weight
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor


class Scaled(Struct):
    """IA³: a factor for every output or, of a feed-forward layer, every input (peft 0.21 tuners/ia3/layer.py)."""

    factors: Parameter
    scales_input: bool

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """Linear.forward."""
        scale = e.linear_unary(tape, "mul", self.factors).as_shape((self.factors.numel,))
        if weights.packed is not None:
            return self._over_quantized(tape, x, weights, scale)
        dtype = x.dtype
        if self.scales_input:
            wide = tape.to(x, self.factors.dtype)
            return base(tape, tape.to(e.mul(tape, wide, scale), dtype), weights)
        result = base(tape, x, weights)
        return tape.to(e.mul(tape, result, scale), result.dtype)

    def _over_quantized(self, tape: Tape, x: Tensor, weights: Weights, scale: Tensor) -> Tensor:
        """Linear8bitLt.forward and Linear4bit.forward (tuners/ia3/bnb.py): inputs become float32 without autocast."""
        converts = tape.autocast is None and x.dtype != "float32"
        if converts:
            x = tape.to(x, "float32")
        if self.scales_input:
            result = base(tape, e.mul(tape, x, scale), weights)
            dtype = result.dtype
        else:
            result = base(tape, x, weights)
            dtype = result.dtype
            result = e.mul(tape, result, scale)
        if weights.joining.clones:
            result = e.clone(tape, result)
        return tape.to(result, dtype) if converts else result


class SharedFactors(Struct):
    """VeRA: factors that all layers share and nobody trains, with two vectors (peft 0.21 tuners/vera/layer.py)."""

    inner: Parameter
    outer: Parameter
    dropout: float

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """Linear.forward: its slices of the shared factors are views."""
        dtype = x.dtype
        result = joined(tape, x, weights)
        rank, (outputs, inputs) = self.inner.numel, weights.weight.shape
        first, second = Tensor((rank, inputs), self.inner.dtype, None), Tensor((outputs, rank), self.inner.dtype, None)
        wide = tape.to(x, self.inner.dtype)
        low = matmul_weight(tape, e.dropout(tape, wide, self.dropout), first, None)
        raised = matmul_weight(tape, e.mul(tape, self.inner, low), second, None)
        del low
        update = e.mul(tape, self.outer, raised)
        del raised
        return tape.to(tape.to(e.add(tape, result, update), result.dtype), dtype)


class Offset(Struct):
    """BEFT: a bias beside the layer (peft 0.20 tuners/beft/layer.py)."""

    bias: Parameter

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """`(result + bias).to(dtype)`."""
        result = base(tape, x, weights)
        flat = e.linear_unary(tape, "view", self.bias).as_shape((self.bias.numel,))
        return tape.to(e.add(tape, result, flat), result.dtype)


class DrawnInner(Struct):
    """PVeRA: as VeRA, with means and logarithms of variances inside (peft 0.20 tuners/pvera/layer.py)."""

    inner: Parameter
    outer: Parameter
    dropout: float

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """`result + outer * F.linear(mean + noise * exp(0.5 * logvar), B)`."""
        dtype = x.dtype
        result = base(tape, x, weights)
        twice, (outputs, inputs), wide = self.inner.numel, weights.weight.shape, self.inner.dtype
        rank = twice // 2
        first, second = Tensor((twice, inputs), wide, None), Tensor((outputs, rank), wide, None)
        x = tape.to(x, wide)
        low = e.mul(tape, self.inner, matmul_weight(tape, e.dropout(tape, x, self.dropout), first, None))
        mean, spread = shaping.split_last(tape, low, (rank, rank))
        deviation = e.unary_of_result(tape, "exp", e.linear_unary(tape, "mul", spread))
        noise = tape.empty(deviation.shape, wide, "randn")
        drawn = e.add(tape, mean, e.mul(tape, noise, deviation))
        del low, mean, spread, deviation, noise
        update = e.mul(tape, self.outer, matmul_weight(tape, drawn, second, None))
        return tape.to(e.add(tape, result, update), dtype)


class TurnedPairs(Struct):
    """RoAd: pairs of outputs, turned by angles and scaled (peft 0.20 tuners/road/layer.py)."""

    angles: Parameter
    scales: Parameter

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """`result * first + rotate_half(result) * second`, in the dtype of the angles."""
        result = base(tape, x, weights)
        dtype, outputs = result.dtype, weights.weight.shape[0]
        wide = tape.to(result, self.angles.dtype)
        del result
        first, second = (
            e.mul(tape, self.scales, e.unary(tape, operator, self.angles)).as_shape((outputs,))
            for operator in ("cos", "sin")
        )
        half = (*wide.shape[:-1], outputs // 2)
        negative = e.linear_unary(tape, "neg", shaping.part(tape, wide, half))
        turned = shaping.concatenate_last(tape, negative, shaping.part(tape, wide, half))
        del negative
        kept = e.mul(tape, wide, first)
        moved = e.mul(tape, turned, second)
        del turned, wide
        return tape.to(e.add(tape, kept, moved), dtype)
