"""Softmax and dropout that DeBERTa wrote as functions of its own (transformers 4.46 models/deberta)."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.ops import elementwise as e
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor


def masked_softmax(tape: Tape, x: Tensor, pairs: Tensor) -> Tensor:
    """XSoftmax: keeps its result only, whose masked elements are zeros; float32 under autocast."""
    shown = tape.empty(pairs.shape, "bool", "mask")
    hidden = tape.empty(pairs.shape, "bool", "mask")
    del shown
    filled = tape.empty(x.shape, x.dtype, "masked_fill")
    widens = tape.autocast is not None
    wide = tape.empty(x.shape, "float32", "to") if widens and x.dtype == "bfloat16" else None
    dtype = "float32" if widens else x.dtype
    out = tape.apply("xsoftmax", (x,), x.shape, dtype, _masked_softmax_backward, save_output=True)
    del hidden, filled, wide
    return out


def _masked_softmax_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (result,) = node.unpack(tape)
    (gradient,) = gradients
    out = None if gradient is None else tape.empty(result.shape, result.dtype, "softmax backward")
    del result
    return (out,)


def stable_dropout(tape: Tape, x: Tensor, probability: float) -> Tensor:
    """XDropout: what is dropped is filled with zeros, then all of it is scaled."""
    if probability <= 0 or not tape.training:
        return x
    filled = tape.empty(x.shape, x.dtype, "masked_fill")
    mask = (x.shape, "bool", "dropout mask")
    out = tape.apply("xdropout", (x,), x.shape, x.dtype, _stable_dropout_backward, results=(mask,))
    del filled
    return out


def _stable_dropout_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None,)
    filled = e.like(tape, gradient, "masked_fill")
    out = e.like(tape, gradient, "backward")
    del filled, saved
    return (out,)
