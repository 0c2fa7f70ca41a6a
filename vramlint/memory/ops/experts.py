"""A router and its experts: the fused ones of transformers 5 and the loop over modules before it.

Which expert a token goes to depends on the data; the routing is taken to be even (the sum is the same whatever it is).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor


@dataclass(slots=True)
class Router:
    """Chooses `chosen` experts for every token."""

    weight: Weights
    chosen: int
    normalises: bool
    """The chosen probabilities are divided by their sum."""
    lowers: bool
    """The chosen probabilities go back to the dtype of the hidden states."""

    def __call__(self, tape: Tape, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and indices [T, chosen] for tokens [T, H]."""
        logits = linear(tape, x, self.weight)
        probabilities = softmax(tape, logits, in_float32=True)
        shape = (x.shape[0], self.chosen)
        indices = tape.empty(shape, "int64", "topk indices")
        scores = tape.apply("topk", (probabilities,), shape, "float32", _select_backward, save=(indices,))
        if self.normalises:
            total = tape.apply("sum", (scores,), (shape[0], 1), "float32", _sum_backward)
            scores = e.mul(tape, scores, total)
        return (tape.to(scores, logits.dtype) if self.lowers else scores), indices


def take_rows(tape: Tape, x: Tensor, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`x[rows]`: keeps the indices. Backward: a zero-filled tensor of the shape of `x`."""
    return tape.apply("index", (x,), shape, x.dtype, _rows_backward, save=(rows,))


@dataclass(slots=True)
class FusedExperts:
    """All experts of a layer in two tensors (integrations/moe.py, grouped_mm_experts_forward)."""

    gate_up: Parameter
    down: Parameter

    def __call__(self, tape: Tape, x: Tensor, scores: Tensor, indices: Tensor) -> Tensor:
        """The weighted sum [T, H] of the experts' outputs for tokens [T, H]."""
        tokens, hidden = x.shape
        chosen = indices.shape[1]
        pairs = tokens * chosen
        permutation = tape.empty((pairs,), "int64", "sort")
        order = tape.empty((pairs,), "int64", "sort")
        rows = tape.empty((pairs,), "int64", "floor_divide")
        selected = take_rows(tape, x, rows, (pairs, hidden))
        del rows
        weights = take_rows(tape, scores, permutation, (pairs, 1))
        out = _grouped(tape, selected, self.gate_up)
        out = _gated(tape, out)
        out = _grouped(tape, out, self.down)
        weighted = e.mul(tape, out, weights)
        inverse = tape.empty((pairs,), "int64", "inverse permutation")
        weighted = take_rows(tape, weighted, inverse, weighted.shape)
        final = tape.apply("sum", (weighted,), (tokens, hidden), weighted.dtype, _sum_backward)
        del order
        return tape.to(final, x.dtype)


def _gated(tape: Tape, x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    gate, up = e.split_last(tape, x, (half, half))
    return e.mul(tape, e.unary(tape, "silu", gate), up)


def _grouped(tape: Tape, x: Tensor, weight: Parameter) -> Tensor:
    """`grouped_mm(x, weight.transpose(-2, -1))` for a weight [experts, out, in]; no operator of autocast."""
    x = tape.to(x, weight.dtype)
    save = [tensor for tensor, other in ((x, weight), (weight, x)) if other.requires_grad]
    shape = (x.shape[0], weight.shape[1])
    return tape.apply("grouped_mm", (x, weight), shape, x.dtype, _grouped_backward, save=save)


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


def _select_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    edge = node.edges[0]
    out = None if gradient is None or edge is None else tape.empty(edge[2], gradient.dtype, "topk backward")
    del saved
    return (out,)


def _rows_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    edge = node.edges[0]
    out = None if gradient is None or edge is None else tape.empty(edge[2], gradient.dtype, "index backward")
    del saved
    return (out,)


def _sum_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """The gradient is expanded, and copied where the next operator needs it whole."""
    (gradient,) = gradients
    edge = node.edges[0]
    return (None,) if gradient is None or edge is None else (tape.empty(edge[2], gradient.dtype, "expand"),)


@dataclass(slots=True)
class ExpertModule:
    """One expert of the loop."""

    gate: Weights
    up: Weights
    down: Weights


def looped(tape: Tape, experts: Sequence[ExpertModule], x: Tensor, scores: Tensor) -> Tensor:
    """The loop over experts of transformers 4: each adds its weighted outputs in place."""
    tokens, hidden = x.shape
    share = -(-tokens * scores.shape[1] // len(experts))
    final = tape.empty((tokens, hidden), x.dtype, "zeros")
    for expert in experts:
        positions = tape.empty((share,), "int64", "where")
        rows = tape.empty((share,), "int64", "where")
        state = take_rows(tape, x, rows, (share, hidden))
        out = _expert(tape, expert, state)
        out = e.mul(tape, out, take_rows(tape, scores, rows, (share, 1)))
        final = _added_rows(tape, final, tape.to(out, x.dtype), rows)
        del positions, rows
    return final


def _expert(tape: Tape, w: ExpertModule, x: Tensor) -> Tensor:
    gated = e.mul(tape, e.unary(tape, "silu", linear(tape, x, w.gate)), linear(tape, x, w.up))
    return linear(tape, gated, w.down)


def _added_rows(tape: Tape, total: Tensor, x: Tensor, rows: Tensor) -> Tensor:
    """`total.index_add_(0, rows, x)`: in place, keeps the indices and, for its shape, `x`."""
    out = total.as_shape(total.shape)
    out.node, out.requires_grad = None, False
    if tape.grad_enabled and (total.requires_grad or x.requires_grad):
        out.node, out.slot, out.requires_grad = tape.in_place((rows, x), (total, x), _added_rows_backward), 0, True
    return out


def _added_rows_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    edge = node.edges[1]
    if gradient is None:
        return (None, None)
    source = None if edge is None else tape.empty(edge[2], gradient.dtype, "index_select")
    del saved
    return (gradient if node.needs(0) else None, source)
