"""Routers that choose groups of experts first, in float32 (models/{deepseek_v2,deepseek_v3,glm4_moe,dots1})."""

from __future__ import annotations

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.indexing import gather, masked_fill
from vramlint.memory.ops.linear import matmul_weight
from vramlint.memory.ops.merged import Target
from vramlint.memory.ops.routing import Routes, total
from vramlint.memory.ops.selection import divide_in_place, sum_over, topk
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor


def wide_logits(tape: Tape, x: Tensor, target: Target) -> Tensor:
    """`F.linear(x.type(float32), weight.type(float32))`, which autocast lowers again."""
    weight = target.merged(tape, target.factors(tape))
    return matmul_weight(tape, tape.to(x, "float32"), tape.to(weight, "float32"), None)


def without_other_groups(tape: Tape, scores: Tensor, by_group: Tensor, chosen: int) -> tuple[Tensor, list[Tensor]]:
    """The scores [T, experts] outside of the `chosen` groups filled, and what the router's forward names by then.

    `by_group` are the groups' scores [T, groups].
    """
    tokens, experts = scores.shape
    groups = by_group.shape[1]
    _, picked = topk(tape, by_group, chosen)
    del _
    mask = tape.empty((tokens, groups), by_group.dtype, "zeros")
    wide = tape.empty((tokens, groups, experts // groups), by_group.dtype, "expand")
    inverse = tape.empty((tokens, experts), "bool", "to")
    inverse = tape.empty((tokens, experts), "bool", "not")
    return masked_fill(tape, scores, inverse), [picked, mask, wide, inverse]


class SigmoidRouter(Struct):
    """DeepseekV3TopkRouter: the highest sigmoids after a bias, in the groups with the highest pairs."""

    weight: Target
    chosen: int
    groups: int
    chosen_groups: int
    normalises: bool
    chooses_inside: bool
    """Whether the choice is made in the forward itself, whose names live until it returns, and not in a function."""

    def __call__(self, tape: Tape, x: Tensor) -> Routes:
        """The choice is made by biased scores, the weights are plain ones."""
        logits = wide_logits(tape, x, self.weight)
        scores = e.unary_of_result(tape, "sigmoid", logits)
        with tape.grad_mode(enabled=False):  # autograd follows it in some versions, but nothing asks for its gradient
            indices, named = self._choice(tape, scores)
        if not self.chooses_inside:
            named.clear()
        weights = gather(tape, scores, indices, indices.shape)
        if self.normalises:
            weights = divide_in_place(tape, weights, e.add_number(tape, total(tape, weights)))
        return logits, e.linear_unary(tape, "mul", weights), indices

    def _choice(self, tape: Tape, scores: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The experts' indices, and what is named on the way to them."""
        tokens, experts = scores.shape
        biased = e.add(tape, scores, Tensor((experts,), "float32", None))
        grouped = shaping.viewed(tape, biased, (tokens, self.groups, experts // self.groups))
        pairs, places = topk(tape, grouped, 2)
        by_group = sum_over(tape, pairs, (tokens, self.groups))
        del pairs
        filled, named = without_other_groups(tape, biased, by_group, self.chosen_groups)
        del biased, grouped
        _, indices = topk(tape, filled, self.chosen)
        return indices, [by_group, places, *named, filled]


class ScaledSoftmaxRouter(Struct):
    """DeepseekV2TopkRouter: the highest probabilities, in the groups with the highest ones or in all."""

    weight: Target
    chosen: int
    groups: int
    """0: not grouped."""
    chosen_groups: int

    def __call__(self, tape: Tape, x: Tensor) -> Routes:
        """The weights are scaled, not normalised."""
        logits = wide_logits(tape, x, self.weight)
        scores = softmax(tape, logits, in_float32=True)
        named: list[Tensor] = []
        if self.groups:
            with tape.grad_mode(enabled=False):  # nothing asks for the gradient of the groups
                by_group, places = _highest_of_groups(tape, scores, self.groups)
            scores, named = without_other_groups(tape, scores, by_group, self.chosen_groups)
            named += [by_group, places]
        weights, indices = topk(tape, scores, self.chosen)
        weights = e.linear_unary(tape, "mul", weights)
        del named
        return logits, weights, indices


def _highest_of_groups(tape: Tape, scores: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """`scores.view(T, groups, experts / groups).max(dim=-1)`: values and indices."""
    tokens, experts = scores.shape
    values, places = topk(tape, scores.as_shape((tokens, groups, experts // groups)), 1)
    return values.as_shape((tokens, groups)), places
