"""Products of torchao's NF4 weights (torchao 0.18 quantization/quantize_/workflows/nf4/nf4_tensor.py)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from msgspec import Struct

from vramlint.memory.ops.linear import Joining, Weights
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor

BLOCK, SCALER_BLOCK = 64, 256
"""Elements that share a scale, and scales that share one of theirs (`to_nf4`)."""
_CODES = 16
JOINING = Joining(casts_always=False, narrows="none")
"""torchtune's LoRALinear casts nothing (torchtune 0.7 modules/peft/lora.py)."""


class Nf4Tensor(Struct, frozen=True):
    """A weight that is unpacked for every product, by operators that each allocate their result."""

    dtype: str
    """dtype of the unpacked weight."""
    joining: Joining = JOINING

    def product(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """LinearNF4.forward: keeps only the packed weight."""
        dense = self.dense(tape, weights.weight)
        shape = (*x.shape[:-1], weights.weight.shape[0])
        out = tape.apply("linear_nf4", (x,), shape, x.dtype, _backward, context=(self, weights.weight))
        del dense
        return out

    def dense(self, tape: Tape, weight: Parameter) -> Tensor:
        """`get_original_weight`: the codes of both halves as 64-bit indices, their values, and the scaled ones."""
        if tape.compiled:  # one kernel from the codes to the weight
            return tape.empty(weight.shape, self.dtype, "dequantize", "temporaries")
        half = prod(weight.shape) // 2

        def made(dtype: str, count: int = half) -> Tensor:
            return tape.empty((count,), dtype, "unpacked NF4", "temporaries")

        codes = []
        for _ in range(2):
            nibbles = made("uint8")
            codes.append(made("int64"))
            del nibbles
        values = [made(self.dtype) for _ in range(2)]
        scales = made(self.dtype, 2 * half // BLOCK)
        scaled = []
        for _ in range(2):
            repeated = made(self.dtype)
            scaled.append(made(self.dtype))
            del repeated
        dense = tape.empty(weight.shape, self.dtype, "dequantize", "temporaries")
        del codes, values, scales, scaled
        return dense


def stored(shape: Sequence[int], width: int) -> tuple[int, ...]:
    """Bytes of quantized_data, quantized_scalers, quantization_factor, scaler_mean and nf4; `width` is the dtype's."""
    elements = prod(shape)
    blocks = elements // BLOCK
    return (elements // 2, blocks, width * -(-blocks // SCALER_BLOCK), width, width * _CODES)


def _backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    packed, weight = node.context
    dense = packed.dense(tape, weight)
    out = tape.empty(edge[2], gradient.dtype, "linear_nf4 backward")
    del dense
    return (out,)
