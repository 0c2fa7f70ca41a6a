"""Products of 4-bit weights: bitsandbytes' NF4 and FP4, GPTQ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from vramlint.memory.ops.linear import Joining, Weights
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor

KEEPS_INPUTS_UNTIL = (0, 43, 2)
"""Before this release of bitsandbytes the products of 4-bit weights kept their input, as an attribute of their context
that lives as long as the graph (autograd/_functions.py, MatMul4Bit)."""
NF4_BLOCK = 64
"""Elements per absmax value of a 4-bit weight (bitsandbytes 0.50 nn/modules.py, Params4bit blocksize)."""
LINEAR_4BIT = Joining(clones=True, casts_always=False, narrows="update")
"""Peft 0.21 tuners/lora/bnb.py, Linear4bit.forward."""


@dataclass(frozen=True, slots=True)
class FourBit:
    """A weight that is dequantized for every product."""

    compute_dtype: str
    """dtype of the product."""
    source_dtype: str
    """dtype that the weight had when it was quantized, and has again before it is cast to the compute dtype."""
    keeps_input: bool = False
    """The product's input lives as long as the graph."""
    scaled_apart: bool = True
    """The scales are unpacked to float32 first; GPTQ's kernel reads them as they are."""
    joining: Joining = LINEAR_4BIT

    def product(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """Bitsandbytes 0.50 Linear4bit.forward with MatMul4Bit: keeps only the packed weight."""
        dtype = x.dtype
        x = tape.to(x, self.compute_dtype)
        shape = (*x.shape[:-1], weights.weight.shape[0])
        context = (self, weights.weight, tape.attach(x) if self.keeps_input else None)
        absmax, dense = self._absmax(tape, weights.weight), self._unpacked(tape, weights.weight, self.compute_dtype)
        out = tape.apply("linear4bit", (x,), shape, x.dtype, _backward, context=context)
        del absmax, dense, context
        return tape.to(out, dtype)

    def dense(self, tape: Tape, weight: Parameter) -> Tensor:
        """Dequantize_4bit."""
        absmax = self._absmax(tape, weight)
        dense = tape.empty(weight.shape, self.source_dtype, "dequantize", "temporaries")
        del absmax
        return dense

    def _unpacked(self, tape: Tape, weight: Parameter, dtype: str) -> list[Tensor]:
        """The dense weight in the dtype that it had once, and its cast to `dtype`."""
        dtypes = dict.fromkeys((self.source_dtype, dtype))
        return [tape.empty(weight.shape, name, "dequantize", "temporaries") for name in dtypes]

    def _absmax(self, tape: Tape, weight: Parameter) -> Tensor | None:
        blocks = -(-prod(weight.shape) // NF4_BLOCK)
        return tape.empty((blocks,), "float32", "absmax", "temporaries") if self.scaled_apart else None


def _backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    packed, weight, _ = node.context
    dense = packed._unpacked(tape, weight, gradient.dtype)
    out = tape.empty(edge[2], gradient.dtype, "linear4bit backward")
    del dense
    return (out,)
