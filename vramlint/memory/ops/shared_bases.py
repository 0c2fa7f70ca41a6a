"""Adapters whose factors come from what all layers share: peft 0.20 tuners/{unilora,randlora,vblora}/layer.py."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.linear import Weights, base, matmul_weight
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Shape, Tensor


class DrawnFactors(Struct):
    """Uni-LoRA: both factors are entries of one vector, drawn by indices and scaled by buffers."""

    vector: Parameter
    rank: int
    dropout: float

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """`result + F.linear(F.linear(dropout(x), A), B)`."""
        dtype = x.dtype
        result = base(tape, x, weights)
        outputs, inputs = weights.weight.shape
        first, second = (self._factor(tape, shape) for shape in ((self.rank, inputs), (outputs, self.rank)))
        wide = tape.to(x, self.vector.dtype)
        low = matmul_weight(tape, e.dropout(tape, wide, self.dropout), first, None)
        return tape.to(e.add(tape, result, matmul_weight(tape, low, second, None)), dtype)

    def _factor(self, tape: Tape, shape: Shape) -> Tensor:
        entries = tape.apply("index", (self.vector,), shape, self.vector.dtype, _entries_backward)
        return e.mul(tape, entries, Tensor(shape, self.vector.dtype, None))


def _entries_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,), edge = gradients, node.edges[0]
    return (None if gradient is None or edge is None else tape.empty(edge[2], gradient.dtype, "index"),)


class RandomBases(Struct):
    """RandLoRA: random bases of full rank that all layers share, scaled by two trained matrices."""

    rows: Parameter
    """`randlora_lambda` [r, bases]."""
    columns: Parameter
    """`randlora_gamma` [bases, the smaller side]."""
    copies: bool
    """The larger base has more bases than this layer takes, so its part is copied to be flat."""
    dropout: float

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """`result + F.linear(F.linear(dropout(x), first), second) * scaling`."""
        dtype = x.dtype
        result = base(tape, x, weights)
        small, large = sorted(weights.weight.shape)
        inner = self.rows.numel
        wide = self.rows.dtype
        fixed = tape.empty((large, inner), wide, "reshape") if self.copies else Tensor((large, inner), wide, None)
        inputs = (self.rows, self.columns)
        scaled = tape.apply("scaled bases", inputs, (inner, small), wide, _scaled_backward, save=inputs)
        narrow = weights.weight.shape[1] == small
        first, second = (scaled, fixed) if narrow else (fixed, scaled)
        x = tape.to(x, wide)
        low = matmul_weight(tape, e.dropout(tape, x, self.dropout), first, None, columns=not narrow)
        update = e.linear_unary(tape, "mul", matmul_weight(tape, low, second, None, columns=not narrow))
        del low
        return tape.to(e.add(tape, result, update), dtype)


def _scaled_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """UniqueBaseGrad: two contractions of the gradient with the base."""
    saved = node.unpack(tape)
    (gradient,) = gradients
    results: list[Tensor | None] = []
    for edge in node.edges:
        product = None if gradient is None else tape.empty(gradient.shape, gradient.dtype, "mul backward")
        results.append(None if product is None or edge is None else tape.empty(edge[2], edge[3], "einsum backward"))
        del product
    del saved
    return results


class BankFactors(Struct):
    """VB-LoRA: each part of a factor is a mean of the bank's vectors that have the largest logits."""

    bank: Parameter
    first: Parameter
    """[r, parts, vectors]."""
    second: Parameter
    best: int
    dropout: float

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """`result + F.linear(F.linear(dropout(x), A), B)`."""
        dtype = x.dtype
        result = base(tape, x, weights)
        outputs, inputs = weights.weight.shape
        rank = self.first.shape[0]
        first = self._factor(tape, self.first).as_shape((rank, inputs))
        second = shaping.reordered(tape, self._factor(tape, self.second), (outputs, rank))
        wide = tape.to(x, self.bank.dtype)
        low = matmul_weight(tape, e.dropout(tape, wide, self.dropout), first, None)
        update = matmul_weight(tape, low, second, None)
        del low
        return tape.to(e.add(tape, result, update), dtype)

    def _factor(self, tape: Tape, logits: Parameter) -> Tensor:
        """`(softmax(logits.topk(k)).unsqueeze(-1) * bank[indices]).sum(-2)`."""
        rows, parts, _ = logits.shape
        shape = (rows, parts, self.best)
        indices = tape.empty(shape, "int64", "topk")
        largest = tape.apply("topk", (logits,), shape, logits.dtype, _entries_backward, save=(indices,))
        shares = e.unary_of_result(tape, "softmax", largest).as_shape((*shape, 1))
        length = self.bank.shape[1]
        chosen = shaping.index(tape, self.bank, (*shape, length), (indices,))
        weighed = e.mul(tape, shares, chosen)
        del chosen
        return tape.apply("sum", (weighed,), (rows, parts, length), weighed.dtype, _spread)


def _spread(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,), edge = gradients, node.edges[0]
    return (None if gradient is None or edge is None else gradient.as_shape(edge[2]),)
