"""The other forms of fused experts: one after the other, all in one batched product, and grouped as they were at first.

transformers 5.23 integrations/moe.py (batched_mm) and the experts' own forward (eager). Which tokens an expert gets is
taken to be even.
"""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.attention import repeat_backward
from vramlint.memory.ops.experts import FusedExperts, grouped, picked
from vramlint.memory.ops.linear import matmul, matmul_weight
from vramlint.memory.ops.selection import add_rows, row, sum_over, take_rows
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor


class EagerExperts(FusedExperts):
    """A loop over slices of the weights. One expert's names live until the next one takes them."""

    def _forward(
        self, tape: Tape, x: Tensor, scores: Tensor, indices: Tensor, factors: Sequence[Sequence[Tensor]]
    ) -> Tensor:
        tokens, hidden = x.shape
        experts, chosen = self.down.weight.shape[0], indices.shape[1]
        share = -(-indices.numel // experts)
        final = tape.empty((tokens, hidden), x.dtype, "zeros")
        mask = tape.empty((tokens, chosen, experts if self.transposed else experts + 1), "int64", "one_hot")
        matrix = down = None
        for _ in range(experts):
            rows = tape.empty((share, 2), "int64", "where")
            state = take_rows(tape, x, rows, (share, hidden))
            matrix = matrix or self.gate_up.merged(tape, factors[0])
            both = self._product(tape, state, matrix, self.gate_up_bias)
            current = self.gate(tape, both)
            down = down or self.down.merged(tape, factors[1])
            out = self._product(tape, current, down, self.down_bias)
            if not self.transposed:
                current = out
            weighted = e.mul(tape, out, take_rows(tape, scores, rows, (share, 1)))
            if not self.transposed:
                current = out = weighted
            final = add_rows(tape, final, tape.to(weighted, x.dtype), rows)
        del mask
        return final

    def _product(self, tape: Tape, x: Tensor, weight: Tensor, bias: Parameter | None) -> Tensor:
        """`F.linear(x, weight[expert])`, or `x @ weight[expert] + bias[expert]`."""
        if bias is None:
            return matmul_weight(tape, x, row(tape, weight), None)
        product = matmul(tape, x, row(tape, weight), (x.shape[0], weight.shape[2]))
        return e.add(tape, product, row(tape, bias))


class BatchedExperts(FusedExperts):
    """Every pair of a token and an expert has a copy of the expert's weights."""

    def _forward(
        self, tape: Tape, x: Tensor, scores: Tensor, indices: Tensor, factors: Sequence[Sequence[Tensor]]
    ) -> Tensor:
        tokens, hidden = x.shape
        pairs = indices.numel
        selected = tape.apply("repeat_interleave", (x,), (pairs, hidden), x.dtype, repeat_backward)
        ids = indices.as_shape((pairs,))
        matrix = self.gate_up.merged(tape, factors[0])
        weights = take_rows(tape, matrix, ids, (pairs, *matrix.shape[1:]))
        biases = picked(tape, self.gate_up_bias, ids)
        out = self._product(tape, selected, weights, biases)
        out = self.gate(tape, out)
        down = self.down.merged(tape, factors[1])
        weights = take_rows(tape, down, ids, (pairs, *down.shape[1:]))
        biases = picked(tape, self.down_bias, ids)
        out = self._product(tape, out, weights, biases)
        weighted = e.mul(tape, out, shaping.viewed(tape, scores, (pairs, 1)))
        final = sum_over(tape, weighted, (tokens, hidden))
        del biases
        return tape.to(final, x.dtype)

    def _product(self, tape: Tape, x: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
        """_batched_linear: `bmm(weights, x)`, or `bmm(x, weights)` of transposed weights."""
        pairs, width = x.shape[0], weights.shape[2 if self.transposed else 1]
        rows = shaping.viewed(tape, x, (pairs, 1, x.shape[1]) if self.transposed else (pairs, x.shape[1], 1))
        if self.transposed:
            out = matmul(tape, rows, weights, (pairs, 1, width))
        else:
            out = matmul(tape, weights, rows, (pairs, width, 1))
        out = shaping.viewed(tape, out, (pairs, width))
        return out if bias is None else e.add_in_place(tape, out, bias)


class RepeatingExperts(FusedExperts):
    """grouped_mm_experts_forward of transformers 5.0 to 5.4: tokens are repeated, and put in order after that."""

    def _forward(
        self, tape: Tape, x: Tensor, scores: Tensor, indices: Tensor, factors: Sequence[Sequence[Tensor]]
    ) -> Tensor:
        tokens, hidden = x.shape
        pairs, experts = indices.numel, self.down.weight.shape[0]
        repeated = take_rows(tape, x, tape.empty((pairs,), "int64", "expand"), (pairs, hidden))
        order, inverse = tape.empty((pairs,), "int64", "argsort"), tape.empty((pairs,), "int64", "argsort")
        ids = tape.empty((pairs,), "int64", "index")
        weights = take_rows(tape, scores, order, (pairs, 1))
        selected = take_rows(tape, repeated, order, (pairs, hidden))
        tape.scratch((4 * pairs,), "to")
        counts = tape.empty((experts,), "float32", "histc")
        offsets = tape.empty((experts,), "int32", "cumsum")
        matrix, down = self.gate_up.merged(tape, factors[0]), self.down.merged(tape, factors[1])
        width = matrix.shape[2 if self.transposed else 1]
        biases = [picked(tape, bias, ids) for bias in (self.gate_up_bias, self.down_bias)]
        both = self._biased(tape, grouped(tape, selected, matrix, width, offsets, None), biases[0])
        current = self.gate(tape, both)
        out = self._biased(tape, grouped(tape, current, down, hidden, offsets, None), biases[1])
        out = e.mul(tape, out, weights)
        ordered = take_rows(tape, out, inverse, out.shape)
        final = tape.to(sum_over(tape, ordered, (tokens, hidden)), x.dtype)
        del repeated, counts, both, current, ordered
        return final

    def _biased(self, tape: Tape, x: Tensor, bias: Tensor | None) -> Tensor:
        """`out + bias`."""
        return x if bias is None else e.add(tape, x, bias)
