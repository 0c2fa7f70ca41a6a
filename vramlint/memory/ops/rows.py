"""Adapters on the rows of an embedding: LoRA's factors of the table, and single rows that train."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.embedding import look_up
from vramlint.memory.ops.linear import Weights, matmul_weight
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor


class LowRankRows(Struct):
    """LoRA of an embedding: A is [r, rows], B is [width, r] (peft 0.21 tuners/lora/layer.py, Embedding)."""

    a: Parameter
    b: Parameter

    def looked_up(self, tape: Tape, indices: Tensor, weight: Parameter) -> Tensor:
        """`F.embedding(x, W) + F.embedding(x, A.T) @ B.T * scaling`; no dropout."""
        result = look_up(tape, indices, weight)
        low = look_up(tape, indices, shaping.transposed_matrix(tape, self.a))
        update = e.linear_unary(tape, "mul", matmul_weight(tape, low, self.b, None))
        del low
        return tape.to(e.add(tape, result, update), result.dtype)


class TrainedRows(Struct):
    """Some rows of a frozen table, trained apart from it (peft 0.21 tuners/trainable_tokens/layer.py)."""

    delta: Parameter

    def looked_up(self, tape: Tape, indices: Tensor, weight: Parameter) -> Tensor:
        """F.embedding of the whole table with the rows copied into it."""
        return look_up(tape, indices, self._merged(tape, weight))

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """F.linear of an output head that is tied to the table."""
        return matmul_weight(tape, x, self._merged(tape, weights.weight), None)

    def _merged(self, tape: Tape, weight: Parameter) -> Tensor:
        """`weight.index_copy(0, index, delta.to(weight))`: keeps the index and the rows."""
        index = tape.empty(self.delta.shape[:1], "int64", "token indices")
        rows = tape.to(self.delta, weight.dtype)
        return tape.apply("index_copy", (rows,), weight.shape, weight.dtype, _selected, save=(index, rows))


def _selected(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """`gradient.index_select(0, index)`."""
    saved = node.unpack(tape)
    (gradient,) = gradients
    edge = node.edges[0]
    out = None if gradient is None or edge is None else tape.empty(edge[2], gradient.dtype, "index_select")
    del saved
    return (out,)
