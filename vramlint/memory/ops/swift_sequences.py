"""ms-swift's Ulysses around the attention of transformers, and its loss (ms-swift 4, July 2026).

swift/sequence_parallel/{ulysses,sequence_parallel}.py, swift/trainers/utils.py, per_token_loss_func_sp. Everything lies
positions first, so that heads and tokens of a batch of one change places by a copy on one side of the exchange alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd

from vramlint.memory.ops.softmax import cross_entropy
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]


def by_heads(tape: Tape, q: Tensor, k: Tensor, v: Tensor, ranks: int, kernel: Kernel) -> Tensor:
    """From a rank's [B, heads, S / ranks, d] to its part of the attention's output, in the same form.

    Raises:
        NotFollowedError: ranks that do not divide the heads of keys, which go round as a ring besides.
    """
    if gcd(k.shape[1], ranks) != ranks:
        raise NotFollowedError(f"{ranks} ranks for {k.shape[1]} heads of keys, of which ms-swift makes rings, too,")
    wide = [_exchanged(tape, x, ranks, gathers=True) for x in (q, k, v)]
    context = kernel(*wide)
    out = _exchanged(tape, context, ranks, gathers=False)
    del wide, context
    return out


def _exchanged(tape: Tape, x: Tensor, ranks: int, *, gathers: bool) -> Tensor:
    """_SeqAllToAll: all tokens of some heads where it `gathers`, else the other way round."""
    batch, heads, length, size = x.shape
    shape = (batch, heads // ranks, length * ranks, size) if gathers else (batch, heads * ranks, length // ranks, size)
    held = _crossing(tape, x, gathers=gathers)
    out = tape.apply("all to all", (x,), shape, x.dtype, _exchanged_backward, context=gathers)
    held.clear()
    return out


def _crossing(tape: Tape, x: Tensor, *, gathers: bool) -> list[Tensor]:
    """What one exchange holds beside its result: what is sent, where that is a copy, and what arrives, likewise."""
    before = gathers or x.shape[0] > 1
    behind = not gathers or x.shape[0] > 1
    return [tape.empty(x.shape, x.dtype, name) for name, held in (("contiguous", before), ("received", behind)) if held]


def _exchanged_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    held = _crossing(tape, gradient, gathers=not node.context)
    out = tape.empty(edge[2], gradient.dtype, "all to all")
    held.clear()
    return (out,)


def own_loss(tape: Tape, logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of each of a rank's tokens from logits [B, S / ranks, V] in the dtype in which the model gives them."""
    batch, length, vocabulary = logits.shape
    return cross_entropy(tape, logits.as_shape((batch * length, vocabulary)), labels)
