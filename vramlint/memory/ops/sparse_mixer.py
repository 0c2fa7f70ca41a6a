"""PhiMoE's router: two experts are drawn one after the other (transformers models/phimoe, sparsemixer)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.routing import Routes
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor


class Draw(NamedTuple):
    """What the drawing of one expert leaves behind."""

    factor: Tensor
    mask: Tensor
    gates: Tensor
    chosen: Tensor
    multiplier: Tensor


class SparseMixer(Struct):
    """PhimoeTopKRouter."""

    weight: Weights

    def __call__(self, tape: Tape, x: Tensor) -> Routes:
        """Multipliers and indices of two experts. Only the multipliers' own derivative reaches the logits."""
        logits = linear(tape, x, self.weight)
        tokens = x.shape[0]
        with tape.grad_mode(enabled=False):
            first = _drawn(tape, logits)
            others = e.like(tape, logits, "scatter")
            second = _drawn(tape, others)
        save = (*first[1:], *second[1:])
        dtype = first.gates.dtype
        out = tape.apply("sparsemixer", (logits,), (tokens, 2), dtype, _mixer_backward, save=save)
        indices = tape.empty((tokens, 2), "int64", "cat")
        del others
        return logits, out, indices


def _drawn(tape: Tape, scores: Tensor) -> Draw:
    """One expert of every token: a mask over hopeless ones, noise, softmax."""
    tokens, size, dtype = scores.shape[0], scores.nbytes, scores.dtype
    absolute = e.like(tape, scores, "abs")
    factor = e.like(tape, scores, "clamp")
    del absolute
    tape.scratch((size, size), "div")
    mask = tape.empty(scores.shape, "bool", "gt")
    gates = e.like(tape, scores, "masked_fill")
    tape.scratch((size, size), "gumbel")
    index = tape.empty((tokens, 1), "int64", "max")
    if tape.autocast is not None:
        dtype = "float32"
        gates = tape.to(gates, dtype)
    gates = tape.empty(scores.shape, dtype, "softmax")
    multiplier = tape.empty((tokens, 1), dtype, "gather")
    return Draw(factor, mask, gates, index, multiplier)


def _mixer_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """PhimoeMultiplier.backward of both draws, each of the shape of the logits; their sum."""
    saved = node.unpack(tape)
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    parts = [tape.to(tape.empty(edge[2], gradient.dtype, "sparsemixer backward"), edge[3]) for _ in range(2)]
    total = e.like(tape, parts[0], "add")
    del saved
    return (total,)
