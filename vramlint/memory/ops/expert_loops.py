"""Loops over experts that are modules of linear layers, as transformers had them before version 5 (4.57).

Every expert adds its weighted outputs in place. Names of one expert's tensors live until the next expert takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from vramlint.job import DTYPE_BYTES
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.linear import matmul_weight
from vramlint.memory.ops.selection import (
    add_rows,
    joined,
    multiply_in_place,
    new_rows,
    put_rows,
    row,
    split_rows,
    spread_sum,
    take_rows,
)
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor

Expert = Callable[[Tape, Tensor], Tensor]
"""An expert's MLP."""


class LoopedExperts(Struct):
    """The loop of …SparseMoeBlock (models/{mixtral,qwen2_moe,qwen3_moe,olmoe,phimoe,ernie4_5_moe,hunyuan_v1_moe})."""

    experts: Sequence[Expert]
    lingers: bool
    """The block goes on after the loop, with the last expert's names."""

    def __call__(self, tape: Tape, x: Tensor, scores: Tensor, indices: Tensor) -> Tensor:
        """Weights have the dtype that the router gave them, outputs that of `x`."""
        tokens, hidden = x.shape
        chosen, share = indices.shape[1], _share(indices, len(self.experts))
        final = tape.empty((tokens, hidden), x.dtype, "zeros")
        mask = tape.empty((tokens, chosen, len(self.experts)), "int64", "one_hot")
        for expert in self.experts:
            rows = _where(tape, share, (1, chosen, tokens))
            state = take_rows(tape, x, rows, (share, hidden))
            current = e.mul(tape, expert(tape, state), take_rows(tape, scores, rows, (share, 1)))
            final = add_rows(tape, final, tape.to(current, x.dtype), rows)
        if self.lingers:
            tape.held += [mask, rows, state, current]
        return final


class WideLoopedExperts(Struct):
    """The loop of DeepseekV3MoE.moe, which sums in the dtype of the weights (models/{deepseek_v3,glm4_moe,dots1})."""

    experts: Sequence[Expert]

    def __call__(self, tape: Tape, x: Tensor, scores: Tensor, indices: Tensor) -> Tensor:
        """The sum is cast to the dtype of `x` at the end."""
        tokens, hidden = x.shape
        chosen, share = indices.shape[1], _share(indices, len(self.experts))
        final = tape.empty((tokens, hidden), scores.dtype, "zeros")
        mask = tape.empty((tokens, chosen, len(self.experts)), "int64", "one_hot")
        for expert in self.experts:
            rows = tape.empty((share, 2), "int64", "where")
            weights = take_rows(tape, scores, rows, (share, 1))
            state = take_rows(tape, x, rows, (share, hidden))
            output = expert(tape, state)
            weighted = e.mul(tape, output, weights)
            final = add_rows(tape, final, weighted, rows)
        del mask
        return tape.to(final, x.dtype)


def _share(indices: Tensor, experts: int) -> int:
    """Tokens of one expert."""
    return -(-indices.numel // experts)


def _where(tape: Tape, count: int, shape: tuple[int, ...]) -> Tensor:
    """`torch.where(mask[expert])`: both results are views of one tensor; a tensor as an index copies the part."""
    part = tape.empty(shape, "int64", "index")
    rows = tape.empty((count, 2), "int64", "where")
    del part
    return rows


class SortedExperts(Struct):
    """DeepseekV2MoE.moe: tokens are sorted by expert, cut into slices, and put back in order."""

    experts: Sequence[Expert]

    def __call__(self, tape: Tape, x: Tensor, scores: Tensor, indices: Tensor) -> Tensor:
        """The weighted sum is taken in the dtype of the weights."""
        tokens, hidden = x.shape
        pairs = indices.numel
        share, rest = divmod(pairs, len(self.experts))
        counts = tape.empty((tokens, len(self.experts)), "int64", "new_zeros")
        order = tape.empty((pairs,), "int64", "argsort")
        selected = take_rows(tape, x, tape.empty((pairs,), "int64", "floor_divide"), (pairs, hidden))
        outputs = []
        for at, expert in enumerate(self.experts):
            part = shaping.part(tape, selected, (share + (at < rest), hidden))
            out = expert(tape, part)
            outputs.append(out)
        together = joined(tape, outputs, (pairs, hidden))
        placed = put_rows(tape, tape.empty((pairs, hidden), together.dtype, "empty_like"), together, order)
        factor, of_view = scores.as_shape((pairs, 1)), placed.dtype == scores.dtype
        final = spread_sum(
            tape, multiply_in_place(tape, tape.to(placed, scores.dtype), factor, of_view=of_view), (tokens, hidden)
        )
        del counts
        return tape.to(final, placed.dtype)


class ParallelExperts(Struct):
    """GraniteMoeMoE with GraniteMoeParallelExperts: a loop over slices of the tokens and of two weights."""

    gate_up: Parameter
    down: Parameter
    activation: str

    def __call__(self, tape: Tape, x: Tensor, scores: Tensor, indices: Tensor) -> Tensor:
        """The router sorts tokens, then all experts run in two steps."""
        tokens, hidden = x.shape
        pairs, experts = indices.numel, self.down.shape[0]
        tape.scratch((tokens * experts * DTYPE_BYTES[scores.dtype],) * 2 + (8 * tokens * experts,), "gates")
        order = tape.empty((pairs,), "int64", "sort")
        rows = tape.empty((pairs,), "int64", "div")
        weights = take_rows(tape, scores, order, (pairs, 1))
        inputs = take_rows(tape, x, rows, (pairs, hidden))
        out = _parallel(tape, inputs, self.gate_up)
        half = out.shape[-1] // 2
        halves = shaping.split_last(tape, out, (half, half))
        gated = e.mul(tape, activation(tape, self.activation, halves[0]), halves[1])
        out = _parallel(tape, gated, self.down)
        out = e.mul(tape, out, weights)
        zeros = tape.empty((tokens, hidden), out.dtype, "zeros")
        final = new_rows(tape, out, rows, (tokens, hidden))
        del zeros, order, gated
        return final


def _parallel(tape: Tape, x: Tensor, weight: Parameter) -> Tensor:
    """Every expert's part of the rows by its part of the weight, put together."""
    experts, width, _ = weight.shape
    parts = split_rows(tape, x, experts)
    outputs = []
    for part in parts:
        matrix = row(tape, weight)
        outputs.append(matmul_weight(tape, part, matrix, None))
        del matrix
    return joined(tape, outputs, (x.shape[0], width))
