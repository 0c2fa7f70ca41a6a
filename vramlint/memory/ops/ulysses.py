"""DeepSpeed's Ulysses around the attention of transformers: all tokens of some heads instead of some tokens of all.

deepspeed 0.19.8 runtime/sequence_parallel/ulysses_sp.py, UlyssesSPAttentionHF. What crosses the ranks is copied into
the order of the ranks before, and into the order of the heads behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vramlint.memory.ops.attention import merge_heads, repeat_backward
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention of [B, heads, S, d] queries over keys and values, in the same form."""


def ulysses(tape: Tape, q: Tensor, k: Tensor, v: Tensor, ranks: int, kernel: Kernel) -> Tensor:
    """From a rank's [B, heads, S / ranks, d] to its part of the attention's output [B, S / ranks, heads·d].

    Raises:
        NotFollowedError: heads that cannot be shared by so many ranks.
    """
    batch, heads, part, size = q.shape
    _check(heads, k.shape[1], ranks)
    gathered = [tape.empty((batch, part * ranks), "int64", "position ids") for _ in range(2)]
    wide = [_combined(tape, x, ranks) for x in (q, k, v)]
    for index in range(3):
        wide[index] = _by_heads(tape, wide[index])
    whole = kernel(*wide)
    whole.heads_first = whole.shape[1] > 1
    context = merge_heads(tape, whole)
    out = _partitioned(tape, context, ranks, (batch, part, heads * size))
    del gathered, wide, whole, context
    return out


def _check(heads: int, kept: int, ranks: int) -> None:
    if heads % ranks or (kept % ranks and ranks % kept):
        raise NotFollowedError(f"attention of {heads} heads over {kept} on {ranks} ranks, which DeepSpeed refuses,")


def _combined(tape: Tape, x: Tensor, ranks: int) -> Tensor:
    """combine_sequence: the rank's heads of the whole sequence; too few heads of keys are repeated."""
    batch, heads, part, size = x.shape
    if ranks > heads:
        shape = (batch, ranks, part, size)
        x = tape.apply("repeat_interleave", (x,), shape, x.dtype, _repeated_backward)
        heads = ranks
    ordered = tape.apply("contiguous", (x,), x.shape, x.dtype, _ordered_backward, context=heads // ranks)
    shape = (batch, heads // ranks, part * ranks, size)
    return _exchanged(tape, ordered, shape, ordered=batch == 1 and heads == ranks)


def _repeated_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (found,) = repeat_backward(tape, node, gradients)
    if found is not None:
        found.heads_first = found.shape[0] > 1
    return (found,)


def _ordered_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """Back to [S / ranks, B, heads, d]: a copy, but where every rank has one head, whose order a view can tell."""
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    if node.context == 1:
        out = gradient.as_shape(edge[2])
        out.heads_first = True
        return (out,)
    out = tape.empty(edge[2], gradient.dtype, "reshape")
    out.heads_first = edge[2][0] > 1  # samples lie between the positions of one
    return (out,)


def _exchanged(tape: Tape, x: Tensor, shape: tuple[int, ...], *, ordered: bool) -> Tensor:
    """The all-to-all; `ordered` says that the gradient comes in the order of the ranks."""
    return tape.apply("all to all", (x,), shape, x.dtype, _exchanged_backward, context=ordered)


def _exchanged_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    ordered = gradient if node.context else tape.empty(gradient.shape, gradient.dtype, "contiguous")
    out = tape.empty(edge[2], gradient.dtype, "all to all")
    del ordered
    return (out,)


def _by_heads(tape: Tape, x: Tensor) -> Tensor:
    """[S, B, heads, d] in the order of [B, heads, S, d]."""
    if x.shape[0] == x.shape[1] == 1:
        return x
    out = tape.apply("contiguous", (x,), x.shape, x.dtype, _viewed_backward)
    out.heads_first = True
    return out


def _viewed_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    edge = node.edges[0]
    return (None,) if gradient is None or edge is None else (gradient.as_shape(edge[2]),)


def _partitioned(tape: Tape, context: Tensor, ranks: int, shape: tuple[int, ...]) -> Tensor:
    """_partition_global_sequence: all heads of the rank's tokens; samples go before positions by one copy more."""
    several = shape[0] > 1
    if several:
        context = tape.apply("contiguous", (context,), context.shape, context.dtype, _viewed_backward)
    held = [_exchanged(tape, context, context.shape, ordered=False)]
    out = tape.apply("reshape", (held[0],), shape, context.dtype, _viewed_backward)
    held.clear()
    del context
    return tape.apply("contiguous", (out,), shape, out.dtype, _viewed_backward) if several else out
