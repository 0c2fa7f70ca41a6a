"""Routers: which experts a token goes to, and how much each of them counts.

Every router takes tokens [T, H] and returns what its module returns: logits [T, experts], weights and indices
[T, chosen]. A router's forward names most of what it makes, and names live until it returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.indexing import gather
from vramlint.memory.ops.linear import Weights, linear, matmul_weight
from vramlint.memory.ops.merged import Target
from vramlint.memory.ops.selection import divide, divide_in_place, scatter_in_place, sum_over, topk
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor

Routes = tuple[Tensor, Tensor, Tensor]
"""Logits, weights and indices."""


class Router(Protocol):
    """What routes."""

    def __call__(self, tape: Tape, x: Tensor) -> Routes:
        """Logits, weights and indices for tokens [T, H]."""


class SoftmaxRouter(Struct):
    """The most probable experts (models/{mixtral,qwen2_moe,qwen3_moe,olmoe})."""

    weight: Weights | Target
    """A linear layer before the experts were fused, a bare parameter since."""
    chosen: int
    normalises: bool
    """The chosen probabilities are divided by their sum."""
    lowers: str = ""
    """Whose dtype the weights are cast to: logits, input, or none's."""
    widens_input: bool = False
    """The tokens are made float32 for it."""

    def __call__(self, tape: Tape, x: Tensor) -> Routes:
        """softmax, topk, and what the model does with the result."""
        if isinstance(self.weight, Weights):
            tokens = tape.to(x, "float32") if self.widens_input else x
            logits = linear(tape, tokens, self.weight)
        else:
            weight = self.weight.merged(tape, self.weight.factors(tape))
            logits = matmul_weight(tape, x, weight, None)
        probabilities = softmax(tape, logits, in_float32=True)
        scores, indices = topk(tape, probabilities, self.chosen)
        if self.normalises:
            scores = divide_in_place(tape, scores, total(tape, scores))
        if self.lowers:
            scores = tape.to(scores, logits.dtype if self.lowers == "logits" else x.dtype)
        return logits, scores, indices


def total(tape: Tape, scores: Tensor) -> Tensor:
    """`scores.sum(dim=-1, keepdim=True)`."""
    return sum_over(tape, scores, (scores.shape[0], 1))


class BiasedSigmoidRouter(Struct):
    """MiniMaxM2TopKRouter: the highest sigmoids after a bias; the weights are plain ones over their sum."""

    weight: Target
    chosen: int

    def __call__(self, tape: Tape, x: Tensor) -> Routes:
        """The choice is made by biased scores, and nothing asks for its gradient."""
        weight = self.weight.merged(tape, self.weight.factors(tape))
        logits = matmul_weight(tape, tape.to(x, weight.dtype), weight, None)
        scores = e.unary_of_result(tape, "sigmoid", tape.to(logits, "float32"))
        with tape.grad_mode(enabled=False):
            biased = e.add_number(tape, scores)
            _, indices = topk(tape, biased, self.chosen)
        weights = gather(tape, scores, indices, indices.shape)
        weights = divide_in_place(tape, weights, total(tape, weights))
        del biased, _
        return logits, weights, indices


class BiasedSoftmaxRouter(Struct):
    """Ernie4_5_MoeTopKRouter: the most probable experts after a bias, in float32 whatever autocast says."""

    weight: Weights | Target
    bias: Parameter
    chosen: int

    def __call__(self, tape: Tape, x: Tensor) -> Routes:
        """The choice is made by biased probabilities, and nothing asks for its gradient."""
        factors = self.weight.factors(tape) if isinstance(self.weight, Target) else ()
        with tape.autocasting(None):
            logits = self._logits(tape, tape.to(x, "float32"), factors)
            probabilities = softmax(tape, logits, in_float32=True)
            with tape.grad_mode(enabled=False):
                _, indices = topk(tape, e.add_number(tape, probabilities), self.chosen)
            scores = gather(tape, probabilities, indices, indices.shape)
            scores = divide(tape, scores, e.unary(tape, "clamp", total(tape, scores)))
        scores = tape.to(scores, x.dtype)
        return logits, scores, indices

    def _logits(self, tape: Tape, x: Tensor, factors: Sequence[Tensor]) -> Tensor:
        if isinstance(self.weight, Weights):
            return linear(tape, x, self.weight)
        weight = self.weight.merged(tape, factors)
        return matmul_weight(tape, x, tape.to(weight, "float32"), None)


class ChosenLogitsRouter(Struct):
    """GptOssTopKRouter: a softmax over the chosen logits in their own dtype.

    `spreads`: weights are put back among all experts, and returned in place of logits, too (transformers 4.57).
    """

    weight: Weights
    chosen: int
    spreads: bool

    def __call__(self, tape: Tape, x: Tensor) -> Routes:
        """Autocast does not widen a softmax that is asked for a dtype."""
        logits = linear(tape, x, self.weight)
        top, indices = topk(tape, logits, self.chosen)
        with tape.autocasting(None):
            top = softmax(tape, top, in_float32=False)
        if not self.spreads:
            return logits, top, indices
        scores = scatter_in_place(tape, tape.empty(logits.shape, logits.dtype, "zeros"), top, indices)
        return scores, scores, indices


class TopLogitsRouter(Struct):
    """GraniteMoeTopKRouter, before it GraniteMoeTopKGating: a softmax over the chosen logits."""

    weight: Weights | Target
    chosen: int

    def __call__(self, tape: Tape, x: Tensor) -> Routes:
        """The logits are float32, the weights have the dtype of `x`."""
        logits = (
            linear(tape, x, self.weight)
            if isinstance(self.weight, Weights)
            else matmul_weight(tape, x, self.weight.weight, None)
        )
        logits = tape.to(logits, "float32")
        top, indices = topk(tape, logits, self.chosen)
        return logits, tape.to(softmax(tape, top, in_float32=False), x.dtype), indices
