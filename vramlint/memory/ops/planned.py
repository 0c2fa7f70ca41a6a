"""Products whose matrices ranks share by a model's plan (transformers 5.23 distributed/tensor_parallel.py).

What lies between them is whole on every rank. A sum over the ranks is a copy where tensors are DTensors, whose
collectives give new tensors (torch 2.13 distributed/_functional_collectives.py); those of transformers 5.0 to 5.15 add
up in place (integrations/tensor_parallel.py, _AllReduceForward).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.ops import dtensor
from vramlint.memory.ops.linear import Weights, base
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor


class Columns(Struct, frozen=True):
    """Every rank has some of the outputs."""

    ranks: int
    copies: bool = True
    """Sums over the ranks are copies."""
    gathers: bool = False
    """The outputs of all ranks are put together."""

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """The rank's outputs, or all of them."""
        if self.copies and x.requires_grad and tape.grad_enabled:
            whole = x.as_shape(x.shape)
            whole.heads_first = x.heads_first
            whole.node, whole.slot = tape.view_node((x,), _added_backward), 0
            x = whole
        out = base(tape, x, weights)
        return dtensor.whole_logits(tape, out, self.ranks) if self.gathers else out


class Rows(Struct, frozen=True):
    """Every rank has some of the inputs; the products are added up."""

    copies: bool = True

    def __call__(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """The sum, on all ranks."""
        return added(tape, base(tape, x, weights)) if self.copies else base(tape, x, weights)


def added(tape: Tape, x: Tensor) -> Tensor:
    """Partial to Replicate: the ranks' [B, S, H] added up in a copy. Backward: nothing."""
    return tape.apply("all-reduce", (x,), x.shape, x.dtype, _unchanged)


def _unchanged(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    return (None if gradient is None else gradient.as_shape(gradient.shape),)


def _added_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """Each rank's gradient of what all have, added up in a copy."""
    (gradient,) = gradients
    if gradient is None:
        return (None,)
    out = tape.empty(gradient.shape, gradient.dtype, "all-reduce")
    out.heads_first = gradient.heads_first
    return (out,)


def divided_embedding(tape: Tape, tokens: Tensor, weight: Parameter, ranks: int) -> Tensor:
    """EmbeddingParallel: tokens outside of this rank's rows are masked, the ranks' results added up.

    Backward: the gradient of the whole table (torch 2.13 distributed/tensor/_ops/_embedding_ops.py).
    """
    return added(tape, dtensor.masked_look_up(tape, tokens, weight, ranks))
