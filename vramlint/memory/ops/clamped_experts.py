"""Experts of GPT-OSS: transposed weights with biases, gate and up in alternating columns, clamped (models/gpt_oss)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.linear import matmul
from vramlint.memory.ops.merged import Target
from vramlint.memory.ops.selection import add_rows, row, take_rows
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor


def clamped_gate(tape: Tape, x: Tensor) -> Tensor:
    """GptOssExperts._apply_gate: `(up + 1) * gate * sigmoid(alpha * gate)`."""
    half = x.shape[-1] // 2
    gate, up = shaping.slice_last(tape, x, half), shaping.slice_last(tape, x, half)
    gate = e.clamp_one_side(tape, gate)
    up = e.clamp(tape, up)
    glu = e.mul(tape, gate, e.unary_of_result(tape, "sigmoid", e.linear_unary(tape, "mul", gate)))
    return e.mul(tape, e.add_number(tape, up), glu)


class SlicedExperts(Struct):
    """GptOssExperts.forward in training, a loop over slices of the weights (transformers 4.57)."""

    gate_up: Target
    gate_up_bias: Parameter
    down: Target
    down_bias: Parameter

    def __call__(self, tape: Tape, x: Tensor, scores: Tensor, indices: Tensor) -> Tensor:
        """`scores` are [T, experts] here. One expert's tensors keep their names until the next one's take them.

        Adapters' wrappers around the module, the one of `down` outside, merge when the weight is first looked up.
        """
        factors = self.down.factors(tape), self.gate_up.factors(tape)
        return self._forward(tape, x, scores, indices, factors)

    def _forward(
        self, tape: Tape, x: Tensor, scores: Tensor, indices: Tensor, factors: Sequence[Sequence[Tensor]]
    ) -> Tensor:
        tokens, hidden = x.shape
        experts, chosen = self.gate_up.weight.shape[0], indices.shape[1]
        matrix = down = None
        share = -(-indices.numel // experts)
        final = tape.empty((tokens, hidden), x.dtype, "zeros")
        mask = tape.empty((tokens, chosen, experts + 1), "int64", "one_hot")
        for _ in range(experts):
            rows = tape.empty((share, 2), "int64", "where")
            state = take_rows(tape, x, rows, (share, hidden))
            matrix = matrix or self.gate_up.merged(tape, factors[1])
            gate_up = _affine(tape, state, matrix, self.gate_up_bias)
            half = gate_up.shape[-1] // 2
            gate, up = shaping.slice_last(tape, gate_up, half), shaping.slice_last(tape, gate_up, half)
            gate = e.clamp_one_side(tape, gate)
            up = e.clamp(tape, up)
            glu = e.mul(tape, gate, e.unary_of_result(tape, "sigmoid", e.linear_unary(tape, "mul", gate)))
            gated = e.mul(tape, e.add_number(tape, up), glu)
            down = down or self.down.merged(tape, factors[0])
            out = _affine(tape, gated, down, self.down_bias)
            column = shaping.part(tape, scores, (tokens, 1))
            weighted = e.mul(tape, out, take_rows(tape, column, rows, (share, 1)))
            del column
            final = add_rows(tape, final, tape.to(weighted, x.dtype), rows)
        del mask
        return final


def _affine(tape: Tape, x: Tensor, weight: Tensor, bias: Parameter) -> Tensor:
    """`x @ weight[expert] + bias[expert]`."""
    product = matmul(tape, x, row(tape, weight), (x.shape[0], weight.shape[2]))
    return e.add(tape, product, row(tape, bias))
