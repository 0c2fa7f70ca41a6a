"""litgpt's output head and cross entropy in chunks of tokens (litgpt 0.5 lora.py and utils.py)."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.softmax import cross_entropy, mark_logits
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor

CHUNK = 128
"""Tokens of a chunk, the default of both."""


def loss_of(tape: Tape, hidden: list[Tensor], head: Weights, *, softcapped: bool) -> tuple[Tensor, list[Tensor]]:
    """The loss and logits of chunks, which Fabric makes float32 when the forward returns.

    `hidden` is a list that the head's input is taken from, so that nobody else holds it.
    """
    narrow = [_logits(tape, part, head, softcapped=softcapped) for part in _split(tape, hidden.pop())]
    logits: list[Tensor] = []
    for chunk in narrow:
        logits.append(tape.to(chunk, "float32"))
        mark_logits(tape, logits[-1])
    del chunk
    narrow.clear()
    losses = [_loss(tape, chunk) for chunk in logits]
    return tape.apply("mean", losses, (1,), "float32", _shared), logits


def loss_of_whole(tape: Tape, hidden: list[Tensor], head: Weights, *, softcapped: bool) -> tuple[Tensor, list[Tensor]]:
    """The loss in chunks of logits that are one tensor, which Fabric makes float32 (litgpt/pretrain.py)."""
    narrow = [_logits(tape, hidden.pop(), head, softcapped=softcapped)]
    logits = tape.to(narrow.pop(), "float32")
    mark_logits(tape, logits)
    tokens, vocabulary = logits.shape[0] * logits.shape[1], logits.shape[2]
    losses = [_loss(tape, chunk) for chunk in _split(tape, logits.as_shape((1, tokens, vocabulary)))]
    return tape.apply("mean", losses, (1,), "float32", _shared), [logits]


def _logits(tape: Tape, hidden: Tensor, head: Weights, *, softcapped: bool) -> Tensor:
    logits = linear(tape, hidden, head)
    mark_logits(tape, logits)
    if not softcapped:
        return logits
    held = [logits]
    del logits
    return e.softcapped(tape, held)


def _loss(tape: Tape, logits: Tensor) -> Tensor:
    tokens = logits.shape[0] * logits.shape[1]
    labels = tape.empty((tokens,), "int64", "labels of a chunk")
    return cross_entropy(tape, logits.as_shape((tokens, logits.shape[2])), labels)


def _split(tape: Tape, x: Tensor) -> Sequence[Tensor]:
    """`x.split(CHUNK, dim=1)`: views. Backward: one concatenation of all gradients."""
    batch, length, width = x.shape
    parts = [x.as_shape((batch, min(CHUNK, length - start), width)) for start in range(0, length, CHUNK)]
    node = tape.view_node((x,), _concatenated) if x.requires_grad and tape.grad_enabled else None
    if node is not None:
        node.outputs = len(parts)
        for slot, part in enumerate(parts):
            part.node, part.slot = node, slot
    return parts


def _concatenated(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    edge = node.edges[0]
    present = next((gradient for gradient in gradients if gradient is not None), None)
    return (None,) if edge is None or present is None else (tape.empty(edge[2], present.dtype, "split backward"),)


def _shared(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    return [None if edge is None else tape.empty(edge[2], "float32", "mean backward") for edge in node.edges]
