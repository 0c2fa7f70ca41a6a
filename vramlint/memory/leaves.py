"""Leaves of the graph that are no parameters: inputs made to require a gradient."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor


def capture(tape: Tape, leaf: Tensor, gradients: Gradients) -> None:
    """Make `leaf` require a gradient that ends up in `gradients`."""
    leaf.requires_grad = True
    leaf.node = tape.node((), _capture)
    # the node that accumulates a leaf's gradient refers to the leaf's memory as long as the graph lives
    leaf.node.context = (gradients, leaf.storage, leaf.heads_first)


def _capture(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """Keep the gradient, as a copy where it lies in another memory order than its leaf.

    torch 2.13 torch/csrc/autograd/functions/accumulate_grad.h, the gradient layout contract.
    """
    captured, _, heads_first = node.context
    (gradient,) = gradients
    if gradient is not None and gradient.heads_first != heads_first:
        gradient = tape.empty(gradient.shape, gradient.dtype, "gradient layout")
        gradient.heads_first = heads_first
    captured.append(gradient)
    return ()
