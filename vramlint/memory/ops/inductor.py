"""What torch.compile makes of a decoder layer: pointwise chains and reductions become one kernel each.

torch 2.13 torch/_functorch/partitioners.py, min_cut_rematerialization_partition: what backward needs in one piece (the
inputs of matrix products and of attention) is saved, as are reductions; pointwise results are computed again. No kernel
of a chain allocates what stands between, and a sum goes into the memory of an operand that nobody needs any more
(torch/_inductor/scheduler.py, buffer reuse).
"""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.ops import elementwise as e
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor

COMPILED = "compiled"
"""A cross entropy that torch.compile has made one kernel of, where the layers need not be, by Objective.loss."""


def rms_norm(tape: Tape, x: Tensor, weight: Parameter) -> Tensor:
    """A norm with a weight: keeps its input and the reciprocal root of every row."""
    results = (((*x.shape[:-1], 1), "float32", "norm rstd"),)
    return tape.apply("fused norm", (x, weight), x.shape, x.dtype, _per_input, save=(x, weight), results=results)


def pointwise(tape: Tape, x: Tensor) -> Tensor:
    """A chain whose derivative needs nothing but constants: a rotation, a cast."""
    return tape.apply("fused chain", (x,), x.shape, x.dtype, _per_input)


def gated(tape: Tape, gate: Tensor, up: Tensor) -> Tensor:
    """`activation(gate) * up`: keeps both."""
    return tape.apply("fused gate", (gate, up), gate.shape, gate.dtype, _per_input, save=(gate, up))


def repeated(tape: Tape, x: Tensor, repeats: int) -> Tensor:
    """Heads of [B, heads, S, d] copied for those that share them, with whatever comes before them in the chain."""
    batch, heads, length, size = x.shape
    out = tape.apply("fused chain", (x,), (batch, heads * repeats, length, size), x.dtype, _per_input)
    out.heads_first = True
    return out


def added(tape: Tape, a: Tensor, b: Tensor) -> Tensor:
    """`a + b` in the memory of `a`, a matrix product's result that nobody else needs."""
    return e.add_in_place(tape, a, b)


def scaled_sum(tape: Tape, base: Tensor, update: Tensor) -> Tensor:
    """`base + factor * update` in the memory of `base`. Backward: the scaled gradient, a product's input."""
    out = base.as_shape(base.shape)
    out.heads_first = base.heads_first
    if tape.grad_enabled and (base.requires_grad or update.requires_grad):
        out.node, out.slot, out.requires_grad = tape.in_place((), (base, update), _scaled), 0, True
    return out


def cross_entropy(tape: Tape, logits: Tensor) -> Tensor:
    """The loss of logits [T, V], whatever their dtype: keeps them and a sum for each row. Backward: their gradient."""
    results = ((logits.shape[:-1], "float32", "log-sum-exp"),)
    return tape.apply("fused cross entropy", (logits,), (1,), "float32", _of_logits, save=(logits,), results=results)


def _per_input(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return [None] * len(node.edges)
    found = [None if edge is None else tape.empty(edge[2], edge[3], "fused backward") for edge in node.edges]
    del saved
    return found


def _scaled(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    return (gradient if node.needs(0) else None, e.like(tape, gradient, "fused backward") if node.needs(1) else None)


def _of_logits(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    edge = node.edges[0]
    found = None if edge is None else tape.empty(edge[2], edge[3], "fused backward", "logits and loss")
    del saved, gradients
    return (found,)
