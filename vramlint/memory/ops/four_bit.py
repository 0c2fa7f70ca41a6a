"""Products of 4-bit weights: bitsandbytes' NF4 and FP4, GPTQ."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from msgspec import Struct

from vramlint.memory.ops.linear import Joining, Weights
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor

NF4_BLOCK = 64
"""Elements per absmax value of a 4-bit weight (bitsandbytes 0.50 nn/modules.py, Params4bit blocksize)."""
LINEAR_4BIT = Joining(clones=True, casts_always=False, narrows="update")
"""Peft 0.21 tuners/lora/bnb.py, Linear4bit.forward."""


class FourBit(Struct, frozen=True):
    """A weight that is dequantized for every product."""

    compute_dtype: str
    """dtype of the product."""
    source_dtype: str
    """dtype that the weight had when it was quantized, and has again before it is cast to the compute dtype."""
    nested: bool = False
    """The scales are quantized too, and unpacked to float32 first."""
    direct: bool = True
    """The forward dequantizes to the compute dtype at once."""
    keeps_input: bool = False
    """The product's input lives as long as the graph."""
    joining: Joining = LINEAR_4BIT

    def product(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """Linear4bit.forward with MatMul4Bit: keeps only the packed weight.

        Inputs of few tokens, which a kernel may multiply with the packed weight, are taken for longer ones.
        """
        dtype = x.dtype
        x = tape.to(x, self.compute_dtype)
        shape = (*x.shape[:-1], weights.weight.shape[0])
        context = (self, weights.weight, tape.attach(x) if self.keeps_input else None)
        if self.direct:
            scales = [self._scales(tape, weights.weight) for _ in ("unpacked", "with their offset") if self.nested]
            dense = tape.empty(weights.weight.shape, self.compute_dtype, "dequantize", "temporaries")
        else:
            scales, dense = [], self.unpacked(tape, weights.weight, self.compute_dtype)
        out = tape.apply("linear4bit", (x,), shape, x.dtype, _backward, context=context)
        del scales, dense, context
        return tape.to(out, dtype)

    def dense(self, tape: Tape, weight: Parameter) -> Tensor:
        """Dequantize_4bit: the scales go when it returns."""
        scales = self._scales(tape, weight) if self.nested else None
        dense = tape.empty(weight.shape, self.source_dtype, "dequantize", "temporaries")
        del scales
        return dense

    def unpacked(self, tape: Tape, weight: Parameter, dtype: str) -> Tensor:
        """`dequantize_4bit(…).to(dtype)`."""
        dense = self.dense(tape, weight)
        return dense if self.source_dtype == dtype else tape.empty(weight.shape, dtype, "dequantize", "temporaries")

    @staticmethod
    def _scales(tape: Tape, weight: Parameter) -> Tensor:
        blocks = -(-prod(weight.shape) // NF4_BLOCK)
        return tape.empty((blocks,), "float32", "absmax", "temporaries")


def _backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    packed, weight, _ = node.context
    dense = packed.unpacked(tape, weight, gradient.dtype)
    out = tape.empty(edge[2], gradient.dtype, "linear4bit backward")
    del dense
    return (out,)
