"""Products of weights that are made dense for each of them: HQQ, Quanto's and torchao's int8, AWQ."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import PLAIN, Joining, Weights, matmul_weight
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor

HQQ = Joining(casts_always=False, narrows="result")
"""Peft 0.21 tuners/lora/hqq.py."""
AWQ = Joining(casts_always=False, narrows="unscaled")
"""Peft 0.21 tuners/lora/awq.py."""
TOKENS_OF_A_DENSE_PRODUCT = 1024
"""From so many tokens on AutoAWQ unpacks the weight instead of multiplying with it as it is (0.2.9, linear/gemm.py)."""


class Affine(Struct, frozen=True):
    """HQQ 0.2 core/quantize.py, HQQLinear with its default backend: `(W_q - zero) * scale`, all in the weights' dtype.

    Keeps its input, of which backward needs nothing.
    """

    dtype: str
    bits: int
    joining: Joining = HQQ

    def product(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """HQQMatmulNoCacheMul.forward; autocast casts inside, once more in both directions."""
        inputs = (x,) if weights.bias is None else (x, weights.bias)
        shape = (*x.shape[:-1], weights.out_features)
        dense = self.dense(tape, weights.weight)
        dtype = tape.autocast or x.dtype
        casts = [tape.empty(t.shape, dtype, "to", "temporaries") for t in (dense, x) if t.dtype != dtype]
        context = (self, weights.weight)
        out = tape.apply("linear_hqq", inputs, shape, dtype, _matmul_backward, save=inputs, context=context)
        del dense, casts
        return out

    def dense(self, tape: Tape, weight: Parameter) -> Tensor:
        """Quantizer.dequantize: the unpacked weight has a name until the result has it."""
        unpacked = tape.empty(weight.shape, self.dtype, "dequantize", "temporaries")
        if self.bits != 8:
            tape.scratch((weight.numel // 2,) * 2, "unpack")
        shifted = tape.empty(weight.shape, self.dtype, "dequantize", "temporaries")
        dense = tape.empty(weight.shape, self.dtype, "dequantize", "temporaries")
        del unpacked, shifted
        return dense


class ScaledRows(Struct, frozen=True):
    """int8 rows with a scale each, multiplied by it for the product (optimum-quanto 0.2 tensor/weights/qbytes.py).

    Keeps its input, of which backward needs nothing.
    """

    dtype: str
    joining: Joining = PLAIN

    def product(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """WeightQBytesLinearFunction.forward."""
        inputs = (x,) if weights.bias is None else (x, weights.bias)
        shape = (*x.shape[:-1], weights.out_features)
        narrow = None if x.dtype == self.dtype else tape.empty(x.shape, self.dtype, "to", "temporaries")
        dense = self.dense(tape, weights.weight)
        bare = None if weights.bias is None else tape.empty(shape, self.dtype, "matmul", "temporaries")
        context = (self, weights.weight)
        out = tape.apply("linear_quanto", inputs, shape, self.dtype, _matmul_backward, save=(x,), context=context)
        del narrow, dense, bare
        return out

    def dense(self, tape: Tape, weight: Parameter) -> Tensor:
        """`scale * data`."""
        return tape.empty(weight.shape, self.dtype, "dequantize", "temporaries")


class CastRows(Struct, frozen=True):
    """int8 rows that are cast in the graph, which keeps them dense (torchao 0.18 quantize_/workflows/int8)."""

    joining: Joining = PLAIN

    def product(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """`torch.mm(x, int8.to(dtype)) * scale`."""
        dtype = x.dtype
        cast = tape.empty(weights.weight.shape, x.dtype, "dequantize", "casts of quantized weights")
        out = matmul_weight(tape, x, cast, None)
        del cast
        out = e.linear_unary(tape, "mul", out)
        if weights.bias is not None:
            out = e.add_in_place(tape, out, weights.bias)
        return tape.to(out, dtype)

    def dense(self, tape: Tape, weight: Parameter) -> Tensor:
        """Int8Tensor.dequantize."""
        return tape.empty(weight.shape, weight.dtype, "dequantize", "temporaries")


class Groups(Struct, frozen=True):
    """AutoAWQ 0.2.9 modules/linear/gemm.py: 4 bits, unpacked to float16 where the input is long."""

    joining: Joining = AWQ

    def product(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """WQLinear_GEMM.forward."""
        dtype = x.dtype
        x = tape.to(x, "float16")
        shape = (*x.shape[:-1], weights.out_features)
        dense = self.dense(tape, weights.weight) if x.numel // x.shape[-1] >= TOKENS_OF_A_DENSE_PRODUCT else None
        bare = None if weights.bias is None else tape.empty(shape, "float16", "matmul", "temporaries")
        context = (self, weights.weight)
        out = tape.apply("linear_awq", (x,), shape, "float16", _bmm_backward, save=(x,), context=context)
        del dense, bare
        return tape.to(out, dtype)

    def dense(self, tape: Tape, weight: Parameter) -> Tensor:
        """What its kernel writes."""
        return tape.empty(weight.shape, "float16", "dequantize", "temporaries")


def _matmul_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,), edge = gradients, node.edges[0]
    results: list[Tensor | None] = [None] * len(node.edges)
    if gradient is not None and edge is not None:
        packed, weight = node.context
        dense = packed.dense(tape, weight)
        results[0] = tape.empty(edge[2], gradient.dtype, "matmul backward")
        del dense
    if gradient is not None and len(results) > 1 and node.needs(1):
        results[1] = tape.empty((gradient.shape[-1],), gradient.dtype, "sum")
    del saved
    return results


def _bmm_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """The dense weight is repeated for every sequence."""
    saved = node.unpack(tape)
    (gradient,), edge = gradients, node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    packed, weight = node.context
    dense = packed.dense(tape, weight)
    repeated = tape.empty((gradient.shape[0], *weight.shape), gradient.dtype, "repeat", "temporaries")
    out = tape.empty(edge[2], gradient.dtype, "bmm")
    del dense, repeated, saved
    return (out,)
