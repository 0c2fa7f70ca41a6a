"""Losses in kernels of their own.

Cut Cross Entropy never holds the whole logits. Kernels that take the loss of given logits (Unsloth's, flash-attn's with
`inplace_backward`) hold no copy of them and write the gradient over them.
"""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.ops.linear import Weights
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor


def cut(tape: Tape, hidden: Tensor, head: Weights) -> Tensor:
    """Cut Cross Entropy: blocks of logits stay in the kernel (apple/ml-cross-entropy cut_cross_entropy/cce.py).

    Backward writes both gradients in the dtype of the inputs.
    """
    hidden, weight = tape.lower(hidden), tape.lower(head.weight)
    tokens = hidden.numel // hidden.shape[-1]
    statistics = tape.empty((tokens,), "float32", "logsumexp", "logits and loss")
    save = (hidden, weight, statistics)
    return tape.apply("cut cross entropy", (hidden, weight), (1,), "float32", _cut_backward, save=save)


def _cut_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    results: list[Tensor | None] = [
        tape.empty(tensor.shape, tensor.dtype, "cut cross entropy gradient") if node.needs(slot) else None
        for slot, tensor in enumerate(saved[:2])
    ]
    return results


def in_place(tape: Tape, logits: Tensor) -> Tensor:
    """Cross entropy over logits [T, V] whose backward overwrites them (unsloth kernels/cross_entropy_loss.py)."""
    tokens = logits.shape[0]
    losses = tape.empty((tokens,), "float32", "losses", "logits and loss")
    statistics = tape.empty((tokens,), "float32", "logsumexp", "logits and loss")
    labels = tape.empty((tokens,), "int64", "labels", "logits and loss")
    save = (logits, statistics, labels)
    loss = tape.apply("cross entropy in place", (logits,), (1,), "float32", _in_place_backward, save=save)
    del losses
    return loss


def _in_place_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    logits, _, _ = node.unpack(tape)
    overwritten = Tensor(logits.shape, logits.dtype, logits.storage)
    overwritten.view = True
    return (overwritten,)
