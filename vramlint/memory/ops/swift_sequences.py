"""Ulysses around the attention of transformers where everything lies positions first, and ms-swift's loss.

ms-swift 4 (July 2026) swift/sequence_parallel/{ulysses,sequence_parallel}.py, swift/trainers/utils.py,
per_token_loss_func_sp: one exchange, so that heads and tokens of a batch of one change places by a copy on one side of
it alone. verl 0.7 utils/ulysses.py, all_to_all_tensor, has lists of pieces cross, and joins what arrives;
LLaMA-Factory 0.9.5 v1/plugins/model_plugins/parallelization/seq_comm.py and xtuner 0.2 parallel/sequence/comm.py are
the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd
from typing import NamedTuple

from vramlint.memory.ops.softmax import cross_entropy
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]


class Exchange(NamedTuple):
    """One all-to-all: whether it gathers all tokens of some heads, or parts them; and in a list of pieces."""

    gathers: bool
    pieces: bool


def by_heads(tape: Tape, q: Tensor, k: Tensor, v: Tensor, ranks: int, kernel: Kernel, *, pieces: bool) -> Tensor:
    """From a rank's [B, heads, S / ranks, d] to its part of the attention's output, in the same form.

    Args:
        tape: the tape of the step.
        q: queries.
        k: keys.
        v: values.
        ranks: how many share a sequence.
        kernel: the attention of whole sequences.
        pieces: lists of pieces cross the ranks instead of one tensor.

    Raises:
        NotFollowedError: ranks that do not divide the heads: ms-swift has keys go round as a ring besides, verl
            repeats them, LLaMA-Factory and xtuner part them otherwise.
    """
    if gcd(k.shape[1], q.shape[1], ranks) != ranks:
        raise NotFollowedError(f"a sequence of {ranks} ranks for {k.shape[1]} heads of keys")
    wide = [_exchanged(tape, x, ranks, Exchange(gathers=True, pieces=pieces)) for x in (q, k, v)]
    context = kernel(*wide)
    out = _exchanged(tape, context, ranks, Exchange(gathers=False, pieces=pieces))
    del wide, context
    return out


def _exchanged(tape: Tape, x: Tensor, ranks: int, exchange: Exchange) -> Tensor:
    batch, heads, length, size = x.shape
    shape = (batch, heads // ranks, length * ranks, size)
    if not exchange.gathers:
        shape = (batch, heads * ranks, length // ranks, size)
    held = _crossing(tape, x, exchange)
    out = tape.apply("all to all", (x,), shape, x.dtype, _exchanged_backward, context=exchange)
    held.clear()
    return out


def _crossing(tape: Tape, x: Tensor, exchange: Exchange) -> list[Tensor]:
    """What one exchange holds beside its result: what is sent, where that is a copy, and what arrives, likewise."""
    several = x.shape[0] > 1
    before = exchange.gathers or several
    behind = not exchange.gathers or several or exchange.pieces
    return [tape.empty(x.shape, x.dtype, name) for name, held in (("contiguous", before), ("received", behind)) if held]


def _exchanged_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    exchange: Exchange = node.context
    held = _crossing(tape, gradient, exchange._replace(gathers=not exchange.gathers))
    out = tape.empty(edge[2], gradient.dtype, "all to all")
    held.clear()
    return (out,)


def own_loss(tape: Tape, logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of each of a rank's tokens from logits [B, S / ranks, V] in the dtype in which the model gives them."""
    batch, length, vocabulary = logits.shape
    return cross_entropy(tape, logits.as_shape((batch * length, vocabulary)), labels)
