"""BOFT: the input is turned by a dense matrix that is put together at every call (peft 0.20 tuners/boft/layer.py)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights, base, bmm, matmul
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor


class Butterfly(Struct):
    """Without the extension for CUDA, which leaves one factor."""

    blocks: Parameter
    """[blocks, size, size]."""
    scales: Parameter

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """`base(x @ rotation) * scales`."""
        outputs, inputs = weights.weight.shape
        dtype = x.dtype
        unit = tape.empty((inputs, inputs), dtype, "eye", "temporaries")
        rotation = tape.to(matmul(tape, self._rotation(tape, inputs, dtype), unit, (inputs, inputs)), dtype)
        del unit
        result = base(tape, matmul(tape, x, rotation, x.shape), weights)
        del rotation
        ones = tape.empty((outputs,), dtype, "ones")
        scales = e.mul(tape, self.scales, ones)
        return tape.to(e.mul(tape, result, scales), dtype)

    def _rotation(self, tape: Tape, inputs: int, dtype: str) -> Tensor:
        """`P @ block_diag(cayley(blocks)) @ P.T`; P comes to the device and dtype of the input."""
        shape, whole = self.blocks.shape, (1, inputs, inputs)
        skew = tape.apply("sub", (self.blocks,), shape, self.blocks.dtype, _blocks_backward)
        inverse = tape.apply(
            "linalg_solve", (skew,), shape, "float32", _blocks_backward, save=(skew,), save_output=True
        )
        del skew
        turns = tape.to(inverse, self.blocks.dtype)
        diagonal = tape.apply("block_diag", (turns,), whole, turns.dtype, _blocks_backward)
        del inverse, turns
        permutation = tape.empty(whole, dtype, "to")
        narrow = tape.to(diagonal, dtype)
        del diagonal
        turned = bmm(tape, narrow, permutation, whole)
        del narrow
        return bmm(tape, permutation, turned, whole).as_shape((inputs, inputs))


def _blocks_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """As large as the blocks."""
    saved = node.unpack(tape)
    (gradient,), edge = gradients, node.edges[0]
    out = None if gradient is None or edge is None else tape.empty(edge[2], edge[3], "block backward")
    del saved
    return (out,)
