"""Attention scores with a linear bias."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor


def baddbmm(tape: Tape, bias: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """`bias.baddbmm(q, k.transpose(-1, -2), alpha=1/sqrt(d))` of [B, heads, S, d]; the bias needs no gradient."""
    k = tape.lower(k)
    q = tape.lower(q)
    lowered = tape.lower(bias)
    shape = (*q.shape[:3], k.shape[2])
    out = tape.apply("baddbmm", (q, k), shape, q.dtype, _baddbmm_backward, save=(k, q))
    del lowered
    out.heads_first = True
    return out


def _baddbmm_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """`maybe_multiply(grad.bmm(other), alpha)` for each: the product lives until its multiple is there."""
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    results: list[Tensor | None] = []
    for edge in node.edges:
        if edge is None:
            results.append(None)
            continue
        product = tape.empty(edge[2], gradient.dtype, "baddbmm backward")
        multiple = tape.empty(edge[2], gradient.dtype, "baddbmm backward")
        multiple.heads_first = True
        results.append(multiple)
        del product, multiple
    del saved
    return results
