"""Experts of a layer in two tensors, as transformers has them since version 5 (5.23 integrations/moe.py).

Which expert a token goes to depends on the data; the routing is taken to be even (the sum is the same whatever it is).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.merged import Target
from vramlint.memory.ops.selection import sum_over, take_rows
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor

Gate = Callable[[Tape, Tensor], Tensor]
"""`_apply_gate`: from the joint product of gate and up [pairs, 2·I] to the input of down [pairs, I]."""


class Experts(Protocol):
    """What computes."""

    def __call__(self, tape: Tape, x: Tensor, scores: Tensor, indices: Tensor) -> Tensor:
        """The weighted sum [T, H] of the chosen experts' outputs for tokens [T, H]."""


class FusedExperts(Struct):
    """grouped_mm_experts_forward, the default implementation."""

    gate_up: Target
    down: Target
    gate: Gate
    gate_up_bias: Parameter | None = None
    down_bias: Parameter | None = None
    transposed: bool = False
    """Weights are [experts, in, out]."""

    def __call__(self, tape: Tape, x: Tensor, scores: Tensor, indices: Tensor) -> Tensor:
        """Adapters' wrappers around the module, the one of `down` outside, and the module's forward in them."""
        down = self.down.factors(tape)
        gate_up = self.gate_up.factors(tape)
        return self._forward(tape, x, scores, indices, (gate_up, down))

    def _forward(
        self, tape: Tape, x: Tensor, scores: Tensor, indices: Tensor, factors: Sequence[Sequence[Tensor]]
    ) -> Tensor:
        tokens, hidden = x.shape
        pairs = tokens * indices.shape[1]
        experts = self.down.weight.shape[0]
        permutation = tape.empty((pairs,), "int64", "sort")
        ids = tape.empty((pairs,), "int64", "sort")
        selected = take_rows(tape, x, tape.empty((pairs,), "int64", "floor_divide"), (pairs, hidden))
        weights = take_rows(tape, scores, permutation, (pairs, 1))
        numbers = tape.empty((pairs,), "int32", "to")
        counts = tape.empty((experts,), "int32", "histc")
        offsets = tape.empty((experts,), "int32", "cumsum")
        matrix = self.gate_up.merged(tape, factors[0])
        width = 2 if self.transposed else 1
        biases = picked(tape, self.gate_up_bias, ids)
        out = grouped(tape, selected, matrix, matrix.shape[width], offsets, biases)
        out = self.gate(tape, out)
        down = self.down.merged(tape, factors[1])
        biases = picked(tape, self.down_bias, ids)
        out = grouped(tape, out, down, hidden, offsets, biases)
        weighted = e.mul(tape, out, weights)
        inverse = tape.empty((pairs,), "int64", "inverse permutation")
        tape.scratch((8 * pairs,), "arange")
        weighted = take_rows(tape, weighted, inverse, weighted.shape)
        final = sum_over(tape, weighted, (tokens, hidden))
        del numbers, counts, biases
        return tape.to(final, x.dtype)


def gated(name: str) -> Gate:
    """`activation(gate) * up` of the two halves (_default_apply_gate)."""

    def gate(tape: Tape, x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        first, up = shaping.split_last(tape, x, (half, half))
        return e.mul(tape, activation(tape, name, first), up)

    return gate


def picked(tape: Tape, bias: Parameter | None, ids: Tensor) -> Tensor | None:
    """`bias[expert_ids]`: a row for every pair."""
    return None if bias is None else take_rows(tape, bias, ids, (ids.shape[0], bias.shape[1]))


def grouped(tape: Tape, x: Tensor, weight: Tensor, width: int, offsets: Tensor, bias: Tensor | None) -> Tensor:
    """_grouped_linear: `grouped_mm(x.to(weight.dtype), weight) + bias` to rows of `width`.

    No operator of autocast.
    """
    x = tape.to(x, weight.dtype)
    save = [tensor for tensor, other in ((x, weight), (weight, x)) if other.requires_grad]
    out = tape.apply(
        "grouped_mm",
        (x, weight),
        (x.shape[0], width),
        x.dtype,
        _grouped_backward,
        save=(*save, offsets),
    )
    return out if bias is None else e.add_in_place(tape, out, bias)


def _grouped_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    results: list[Tensor | None] = [None, None]
    for position in (1, 0):
        edge = node.edges[position]
        if edge is not None:
            results[position] = tape.empty(edge[2], gradient.dtype, "grouped_mm backward")
    del saved
    return results
