"""torchtitan's routed experts (torchtitan 0.2 models/moe/{moe,utils}.py, distributed/expert_parallel.py).

Every expert gets as many tokens; the sums are the same whatever the routing, but where ranks exchange tokens a rank
whose experts are chosen more often gets more of them. Rows are sorted by expert and padded for grouped products.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.fully_shard import FullyShard
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.experts import grouped
from vramlint.memory.ops.indexing import gather
from vramlint.memory.ops.linear import Weights, bmm, linear
from vramlint.memory.ops.selection import divide, joined, put_rows, sum_over, take_rows, topk
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.tape import Backward, Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor

ALIGNMENT = 8
"""Rows to whose multiples every expert's are padded (TOKEN_GROUP_ALIGN_SIZE_M)."""
EXCHANGED, KEPT_EXCHANGE = "all to all", "kept all to all"
"""The operator, and the same where op-level selective checkpointing keeps its results."""


class Routing(Struct, frozen=True):
    """How a model chooses."""

    chosen: int
    score: str
    """softmax or sigmoid."""
    normalises: bool
    first: bool
    """Tokens are multiplied by their scores before the experts, else behind them."""
    balances: bool = True
    """A bias by which experts are chosen evens them out."""
    limited: bool = False
    """Experts are chosen of some groups of them."""


class Exchange(Struct, frozen=True):
    """How ranks share the experts."""

    ranks: int = 1
    tensor: int = 1
    """Ranks that share the matrices of what is not expert."""
    divided: bool = False
    """These divide the tokens, and not the experts' matrices."""
    operator: str = EXCHANGED

    @property
    def partial(self) -> bool:
        """Whether what experts return is a part of a sum over ranks."""
        return self.tensor > 1 and not self.divided


class Mixture(Struct):
    """Weights of one MoE: those of the experts are [experts, out, in]."""

    gate: Weights
    w1: Parameter
    w2: Parameter
    w3: Parameter
    shared: tuple[Weights, Weights, Weights] | None


def mixture(tape: Tape, x: Tensor, weights: Mixture, routing: Routing, exchange: Exchange) -> Tensor:
    """MoE.forward of [B, S, H]. What it names lives until it returns."""
    tokens = x.shape[0] * x.shape[1]
    flat = x.as_shape((tokens, x.shape[2]))
    scores, indices = _routed(tape, flat, weights.gate, routing)
    pairs = tokens * routing.chosen // (exchange.tensor if exchange.divided else 1)
    order = _sorted(tape, pairs)
    rows = tape.empty((pairs,), "int64", "floor_divide")
    routed = take_rows(tape, flat, rows, (pairs, flat.shape[1]))
    del rows
    if routing.first:
        column = take_rows(tape, scores, order, (pairs, 1))
        routed = tape.to(e.mul(tape, tape.to(routed, "float32"), column), x.dtype)
    found = _exchanged(tape, routed, weights, exchange)
    out = None if weights.shared is None else _shared(tape, flat, weights.shared, exchange)
    unsorted = tape.empty((tokens * routing.chosen, flat.shape[1]), found.dtype, "zeros")
    unsorted = put_rows(tape, unsorted, found, order)
    by_token = shaping.viewed(tape, unsorted, (tokens, routing.chosen, flat.shape[1]))
    if routing.first:
        summed = sum_over(tape, by_token, flat.shape)
    else:
        row = scores.as_shape((tokens, 1, routing.chosen))
        wide = bmm(tape, row, tape.to(by_token, "float32"), (tokens, 1, flat.shape[1]))
        wide.heads_first = False
        summed = shaping.viewed(tape, tape.to(wide, x.dtype), flat.shape)
        del wide
    result = summed if out is None else e.add(tape, out, summed)
    del routed, found, unsorted, by_token, indices
    return shaping.viewed(tape, result, x.shape)


def _routed(tape: Tape, x: Tensor, gate: Weights, routing: Routing) -> tuple[Tensor, Tensor]:
    """TokenChoiceTopKRouter.forward: scores and indices [T, chosen]."""
    wide = tape.to(linear(tape, x, gate), "float32")
    scores = (
        softmax(tape, wide, in_float32=True) if routing.score == "softmax" else e.unary_of_result(tape, "sigmoid", wide)
    )
    del wide
    biased = e.add_number(tape, scores) if routing.balances else scores
    if routing.limited:
        biased = e.linear_unary(tape, "masked_fill", biased)
    _, indices = topk(tape, biased, routing.chosen)
    top = gather(tape, scores, indices, indices.shape)
    if routing.normalises:
        top = divide(tape, top, e.add_number(tape, sum_over(tape, top, (top.shape[0], 1))))
    top = e.linear_unary(tape, "mul", top)
    del biased, _
    return top, indices


def _sorted(tape: Tape, pairs: int) -> Tensor:
    """TokenReorderer.forward: the places of tokens in the order of experts."""
    order = tape.empty((pairs,), "int64", "sort")
    tape.scratch((8 * pairs,), "sort")
    return order


def _exchanged(tape: Tape, x: Tensor, weights: Mixture, exchange: Exchange) -> Tensor:
    """GroupedExperts.__call__ with what sends tokens to their experts and back."""
    sharded = tape.course.sharded
    if isinstance(sharded, FullyShard):
        x = _watched(tape, x, _leaving)
        sharded.enter_experts()
    if exchange.partial:
        x = e.view_as(tape, x, x.shape, _reduced)
    sent = x.shape
    if exchange.ranks > 1:
        x = _all_to_all(tape, x, exchange.operator)
    local = weights.w1.shape[0]
    padded = -(-(sent[0] + local * ALIGNMENT) // ALIGNMENT) * ALIGNMENT
    places = tape.empty((padded,), "int32", "permutation")
    x = joined(tape, [x], (sent[0] + 1, sent[1]))
    x = take_rows(tape, x, places, (padded, sent[1]))
    computed = _grouped(tape, x, weights)
    back = put_rows(tape, tape.empty((sent[0] + 1, sent[1]), computed.dtype, "empty"), computed, places)
    out = shaping.part(tape, back, sent)
    del back, places
    if exchange.ranks > 1:
        out = _all_to_all(tape, out, exchange.operator)
    del computed, x
    if isinstance(sharded, FullyShard):
        sharded.leave_experts()
        out = _watched(tape, out, _coming)
    return out


def _grouped(tape: Tape, x: Tensor, weights: Mixture) -> Tensor:
    """_run_experts_grouped_mm, in bfloat16 whatever the weights are."""
    dtype, offsets = x.dtype, tape.empty((weights.w1.shape[0],), "int32", "cumsum")

    def product(rows: Tensor, weight: Parameter) -> Tensor:
        return grouped(tape, rows, tape.to(weight, "bfloat16"), weight.shape[1], offsets, None)

    h = activation(tape, "silu", product(x, weights.w1))
    h = e.mul(tape, h, product(x, weights.w3))
    del x
    return tape.to(product(h, weights.w2), dtype)


def _shared(tape: Tape, x: Tensor, weights: Sequence[Weights], exchange: Exchange) -> Tensor:
    """FeedForward.forward; under tensor parallelism each product's input is put together backward."""

    def taken() -> Tensor:
        return e.view_as(tape, x, x.shape, _reduced) if exchange.tensor > 1 else x

    w1, w2, w3 = weights
    h = activation(tape, "silu", linear(tape, taken(), w1))
    h = e.mul(tape, h, linear(tape, taken(), w3))
    return linear(tape, h, w2)


def _all_to_all(tape: Tape, x: Tensor, operator: str) -> Tensor:
    """Rows for rows: as many come as go. Backward: the same of the gradient."""
    return tape.apply(operator, (x,), x.shape, x.dtype, _exchanged_backward)


def _exchanged_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    return (None if gradient is None else e.like(tape, gradient, EXCHANGED),)


def _reduced(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """The sum over ranks of what is a part of it on each."""
    (gradient,) = gradients
    return (None if gradient is None else e.like(tape, gradient, "all reduce"),)


def _watched(tape: Tape, x: Tensor, backward: Backward) -> Tensor:
    return e.view_as(tape, x, x.shape, backward) if x.requires_grad else x


def _coming(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """Backward comes to the experts."""
    if isinstance(tape.course.sharded, FullyShard):
        tape.course.sharded.enter_experts(backward=True)
    return (gradients[0],)


def _leaving(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """Backward has left them."""
    if isinstance(tape.course.sharded, FullyShard):
        tape.course.sharded.leave_experts(backward=True)
    return (gradients[0],)
