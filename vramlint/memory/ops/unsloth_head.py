"""Unsloth's head fused with the loss: unsloth_zoo 2026.8 fused_losses/cross_entropy_loss.py, UnslothFusedLoss.

Tokens are cut so that the float32 logits of a part would take a target's bytes. The gradient is computed in forward;
the compiled code of a part holds its logits once, in the head's dtype, and writes their gradient over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from vramlint.memory.ops.linear import Weights
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor

LOSS = "logits and loss"
MOST_TARGET = 4 << 30
"""The most that a part's float32 logits may take, however much is free."""
STEP = 4
"""Parts come by so many."""


def unsloth_head(tape: Tape, hidden: Tensor, head: Weights, free: int) -> Tensor:
    """The loss of hidden states [B, S, H]; `free` are the bytes of the card beside what is there all the time."""
    weight = head.weight
    tokens = hidden.numel // hidden.shape[-1]
    labels = tape.empty((tokens,), "int64", "shifted labels")
    kept = [tape.empty(hidden.shape, hidden.dtype, "gradient of the head's input", LOSS)]
    if weight.requires_grad:
        kept.append(tape.empty(weight.shape, weight.dtype, "gradient of the head", LOSS))
    part = ceil(tokens / parts(tokens, weight.shape[0], free))
    held = [tape.empty((part, weight.shape[0]), weight.dtype, "logits of a part", LOSS)]
    held.append(tape.empty((part, hidden.shape[-1]), hidden.dtype, "gradient of a part", LOSS))
    if weight.requires_grad:
        held.append(tape.empty(weight.shape, weight.dtype, "gradient of the head in a part", LOSS))
    if hidden.dtype != weight.dtype:
        held.append(tape.empty((part, hidden.shape[-1]), weight.dtype, "to", LOSS))
    held.clear()
    del labels
    return tape.apply("unsloth loss", (hidden, weight), (1,), "float32", _backward, save=kept)


def parts(tokens: int, vocabulary: int, free: int) -> int:
    """`get_chunk_size`: into how many parts tokens are cut; half of what is free is the target, if that is known."""
    target = min(free // 2, MOST_TARGET) if free > 0 else MOST_TARGET
    exact = 4 * tokens * vocabulary / target
    return 1 if exact <= 1 else STEP * ceil(exact / STEP)


def _backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """The gradients of the forward pass, scaled where they lie."""
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    return (saved[0] if node.needs(0) else None, saved[1] if node.needs(1) else None)
