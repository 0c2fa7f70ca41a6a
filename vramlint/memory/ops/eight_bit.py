"""Products of 8-bit weights: bitsandbytes' LLM.int8(), without outlier columns, of which only run time knows."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.ops.linear import Joining, Weights
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor

LINEAR_8BIT = Joining(casts_always=False, narrows="update")
"""Peft 0.21 tuners/lora/bnb.py, Linear8bitLt.forward."""


class EightBit(Struct, frozen=True):
    """An int8 weight with a float32 scale for each row, multiplied with inputs that are quantized in each product."""

    by_columns_too: bool = False
    """Before 0.45: the input is quantized by columns as well, and both forms are reordered for the kernel."""
    joining: Joining = LINEAR_8BIT

    def product(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """MatMul8bitLt.forward: the input lives as long as the graph, as an attribute of its context."""
        rows, width = x.numel // x.shape[-1], x.shape[-1]
        shape = (*x.shape[:-1], weights.out_features)
        quantized = self._quantized(tape, x, rows, width)
        kept = [x, *quantized[2:]]
        reordered = tape.empty((rows, width), "int8", "transform", "temporaries") if self.by_columns_too else None
        sums = tape.empty((rows, weights.out_features), "int32", "int8 product", "temporaries")
        narrow = None if x.dtype == "float16" else tape.empty(sums.shape, "float16", "dequantize", "temporaries")
        context = (self, weights.weight, x.dtype, [tape.attach(tensor) for tensor in kept])
        out = tape.apply("linear8bit", (x,), shape, x.dtype, _backward, context=context)
        if self.by_columns_too:  # a clone of the result is what it returns
            tape.scratch((out.nbytes,), "clone")
        del quantized, kept, reordered, sums, narrow, context
        return out

    def _quantized(self, tape: Tape, x: Tensor, rows: int, width: int) -> list[Tensor]:
        """int8_vectorwise_quant: the kernel takes float16, and outliers are looked for in the whole input.

        Before, double_quant also yielded the input quantized by columns, which the context kept.
        """
        half = x if x.dtype == "float16" else tape.empty((rows, width), "float16", "to", "temporaries")
        scales = tape.empty((rows,), "float32", "scales", "temporaries")
        quantized = [tape.empty((rows, width), "int8", "quantize", "temporaries"), scales]
        if self.by_columns_too:
            columns = tape.empty((rows, width), "int8", "quantize")
            columns.requires_grad = x.requires_grad
            return [*quantized, columns]
        magnitudes = tape.empty((rows, width), "float16", "abs", "temporaries")
        outliers = tape.empty((rows, width), "bool", "outliers", "temporaries")
        del half, magnitudes, outliers
        return quantized

    def dense(self, tape: Tape, weight: Parameter) -> Tensor:
        """int8_vectorwise_dequant: `weight * scales * constant`, in float32."""
        scaled = tape.empty(weight.shape, "float32", "dequantize", "temporaries")
        dense = tape.empty(weight.shape, "float32", "dequantize", "temporaries")
        del scaled
        return dense


def _backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """The weight is dequantized to the input's dtype; before 0.45 the gradient was quantized too, for nothing."""
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    packed, weight, dtype, _ = node.context
    unused = [tape.empty(gradient.shape, "int8", "quantize") for _ in ("rows", "columns") if packed.by_columns_too]
    if packed.by_columns_too:
        tape.scratch((weight.numel,), "undo_layout")
    dense = tape.empty(weight.shape, dtype, "dequantize", "temporaries")
    gradient = gradient if gradient.dtype == dtype else tape.empty(gradient.shape, dtype, "to")
    out = tape.empty(edge[2], dtype, "linear8bit backward")
    del dense, unused
    return (out,)
