"""Adapters that work on blocks or norms of a low-rank product: peft 0.20 tuners/{delora,gralora}/layer.py."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.linear import Weights, base, bmm, matmul_weight
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor


class Normalised(Struct):
    """DeLoRA: both factors divided by the norms of their rank-one parts, and one trained strength."""

    first: Parameter
    second: Parameter
    strength: Parameter
    dropout: float

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """`result + F.linear(F.linear(dropout(x) * norms, A) * scaling, B)`."""
        dtype = x.dtype
        result = base(tape, x, weights)
        added = tape.empty(result.shape, result.dtype, "zeros")
        wide = self.first.dtype
        norms = Tensor((weights.weight.shape[1],), wide, None)
        low = matmul_weight(tape, e.mul(tape, e.dropout(tape, x, self.dropout), norms), self.first, None)
        both = e.mul(tape, _norm(tape, self.first, 0), _norm(tape, self.second, 1))
        # a quotient keeps what a product keeps
        low = e.mul(tape, low, e.mul(tape, e.linear_unary(tape, "div", self.strength), both))
        raised = matmul_weight(tape, low, self.second, None)
        del low
        added = e.add_in_place(tape, added, tape.to(raised, added.dtype) if tape.grad_enabled else raised)
        del raised
        return tape.to(e.add(tape, result, added), dtype)


def _norm(tape: Tape, factor: Tensor, side: int) -> Tensor:
    """The norms of the rank-one parts, at least a small number."""
    norm = tape.apply(
        "norm", (factor,), (factor.shape[side],), factor.dtype, _norm_backward, save=(factor,), save_output=True
    )
    return e.clamp(tape, norm)


def _norm_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,), edge = gradients, node.edges[0]
    out = None if gradient is None or edge is None else tape.empty(edge[2], gradient.dtype, "norm backward")
    del saved
    return (out,)


class Blocks(Struct):
    """GraLoRA: a low-rank product for every block of the weight."""

    first: Parameter
    """[blocks, in / blocks, r]."""
    second: Parameter
    """[blocks, r, out / blocks]."""
    dropout: float

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """Two batched products; between them, ranks are dealt out among the blocks of outputs."""
        dtype = x.dtype
        result = base(tape, x, weights)
        blocks, width, rank = self.first.shape
        tokens = x.numel // x.shape[-1]
        wide = e.dropout(tape, tape.to(x, self.first.dtype), self.dropout)
        low = bmm(tape, shaping.viewed(tape, wide, (blocks, tokens, width)), self.first, (blocks, tokens, rank))
        del wide
        dealt = shaping.reordered(tape, low, low.shape)
        del low
        shape = (blocks, tokens, self.second.shape[-1])
        raised = bmm(tape, dealt, self.second, shape)
        flat = shaping.reordered(tape, raised, result.shape)
        del dealt, raised
        scaled = e.linear_unary(tape, "mul", tape.to(flat, result.dtype))
        del flat
        return tape.to(e.add_in_place(tape, result, scaled), dtype)
