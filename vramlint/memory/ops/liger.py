"""Liger's kernels in place of a layer's operators (liger_kernel 0.8.5 ops/{rms_norm,swiglu,geglu,rope,…}.py).

Each is one autograd.Function: it keeps its inputs, and its backward writes over what it keeps or what it gets.
"""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.ops import shaping
from vramlint.memory.ops.rotary import Rotary
from vramlint.memory.ops.softmax import mark_logits
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor

MULTIPROCESSORS = 108
"""Of an A100: a norm's weight gradient is summed in so many float32 rows, one for each multiprocessor."""


def rms_norm(tape: Tape, x: Tensor, weight: Parameter, *, in_place: bool) -> Tensor:
    """LigerRMSNormFunction: keeps x and one reciprocal root per row; `in_place` writes the gradient over its own."""
    rows = (x.numel // x.shape[-1],)
    results = ((rows, "float32", "rms_norm rstd"),)
    backward = _rms_norm_in_place if in_place else _rms_norm_backward
    return tape.apply("rms_norm", (x, weight), x.shape, x.dtype, backward, save=(x, weight), results=results)


def _rms_norm_in_place(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    return _rms_norm_gradients(tape, node, gradients, in_place=True)


def _rms_norm_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    return _rms_norm_gradients(tape, node, gradients, in_place=False)


def _rms_norm_gradients(tape: Tape, node: Node, gradients: Gradients, *, in_place: bool) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    gradient = _contiguous(tape, gradients)
    if gradient is None:
        return (None, None)
    weight = saved[1]
    partial = None
    if node.needs(1):
        partial = tape.empty((MULTIPROCESSORS, weight.numel), "float32", "rms_norm backward")
    first = gradient if in_place else tape.empty(gradient.shape, gradient.dtype, "rms_norm backward")
    second = None
    if partial is not None:
        second = tape.to(tape.empty(weight.shape, "float32", "rms_norm backward"), weight.dtype)
    del saved, partial
    return (first.as_shape(first.shape), second)


def gated_product(tape: Tape, gate: Tensor, up: Tensor) -> Tensor:
    """LigerSiLUMulFunction and LigerGELUMulFunction: keeps both inputs, into which backward writes their gradients."""
    return tape.apply("gated product", (gate, up), gate.shape, gate.dtype, _gated_backward, save=(gate, up))


def gated_halves(tape: Tape, gate_up: Tensor) -> Tensor:
    """The same of the two halves of one product, which are copied first."""
    half = gate_up.shape[-1] // 2
    gate, up = shaping.split_last(tape, gate_up, (half, half))
    copies = [_new(tape, part) for part in (gate, up)]
    return tape.apply("gated product", (gate, up), gate.shape, gate.dtype, _gated_backward, save=copies)


def _gated_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    gate, up = node.unpack(tape)
    if _contiguous(tape, gradients) is None:
        return (None, None)
    return (gate.as_shape(gate.shape), up.as_shape(up.shape))


def rotate(tape: Tape, q: Tensor, k: Tensor, position: Rotary, *, copies: bool = False) -> tuple[Tensor, Tensor]:
    """LigerRopeFunction: rotates queries and keys [B, heads, S, d] where they lie, and their gradients, too.

    `copies`: they are parts of a larger product, so they are copied first.
    """
    rotated = tuple([_new(tape, x) if x.heads_first or copies else x.as_shape(x.shape) for x in (q, k)])
    if tape.grad_enabled and (q.requires_grad or k.requires_grad):
        node = tape.in_place((position.cos, position.sin), (q, k), _rotate_backward)
        if node is not None:
            node.outputs = 2
        for slot, part in enumerate(rotated):
            part.node, part.slot, part.requires_grad = node, slot, True
    return rotated[0], rotated[1]


def _rotate_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    for slot, gradient in enumerate(gradients):
        if gradient is not None and gradient.heads_first:
            gradients[slot] = _new(tape, gradient)
    del saved
    return [None if gradient is None else gradient.as_shape(gradient.shape) for gradient in gradients]


def cross_entropy(tape: Tape, logits: Tensor) -> Tensor:
    """LigerCrossEntropyFunction of logits [T, V]: forward writes their gradient over them."""
    tokens = (logits.shape[0],)
    losses = tape.empty(tokens, logits.dtype, "losses", "logits and loss")
    mask = tape.empty(tokens, "bool", "label mask")
    tape.scratch((8 * tokens[0],), "mul")
    mark_logits(tape, logits)
    loss = tape.apply("liger cross entropy", (logits,), (1,), logits.dtype, _overwritten, save=(logits,))
    del losses, mask
    return loss


def _overwritten(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (logits,) = node.unpack(tape)
    return (logits.as_shape(logits.shape),)


def _new(tape: Tape, x: Tensor) -> Tensor:
    return tape.empty(x.shape, x.dtype, "contiguous")


def _contiguous(tape: Tape, gradients: Gradients) -> Tensor | None:
    """The one gradient, copied if it lies in another order."""
    (gradient,) = gradients
    if gradient is not None and gradient.heads_first:
        gradients[0] = gradient = _new(tape, gradient)
    return gradient
