"""Floating-point operations of the operators that do nearly all of them: products of matrices, attention, convolutions.

A multiplication with its addition counts as two, attention as if nothing were masked, and the backward of a fused
attention kernel as five products for the forward's two, as torch's FlopCounterMode counts (torch 2.13
torch/utils/flop_counter.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import NamedTuple

from vramlint.estimate import Work
from vramlint.memory.tensor import Shape, Tensor

LINEAR, ATTENTION = "linear", "attention"
FORWARD, BACKWARD, RECOMPUTED = "forward", "backward", "recomputed"


class Operation(NamedTuple):
    """What one operator does."""

    kind: str
    """linear: a product with a weight; attention: of two activations."""
    dtype: str
    flops: int
    gradients: tuple[float, ...]
    """Its derivative's share for each input that needs a gradient."""
    again: float = 0.0
    """Its derivative's share whatever needs a gradient."""


Rule = Callable[[Sequence[Tensor], Shape, str], Operation]
"""From an operator's inputs, and the shape and dtype of its output."""


def _linear(inputs: Sequence[Tensor], shape: Shape, dtype: str) -> Operation:
    """[…, n] by [n, m]; two such products in backward, one where the weight is frozen."""
    return Operation(LINEAR, dtype, 2 * prod(shape) * inputs[0].shape[-1], (1, 1))


def _product(inputs: Sequence[Tensor], shape: Shape, dtype: str) -> Operation:
    return Operation(ATTENTION, dtype, 2 * prod(shape) * inputs[0].shape[-1], (1, 1))


def _merged(inputs: Sequence[Tensor], shape: Shape, dtype: str) -> Operation:
    """[n, r] by [r, m] added to a first input; without one where the two factors are all.

    Factors of experts [E, n, m] have the ranks of all of them side by side (peft 0.21 lora/layer.py, ParamWrapper).
    """
    if len(inputs) < 3:
        return _product(inputs, shape, dtype)
    factor = inputs[1].shape
    beside = shape[0] if len(shape) == 3 and len(factor) == 2 else 1
    return Operation(LINEAR, dtype, 2 * prod(shape) * factor[-1] // beside, (0, 1, 1))


def _convolution(inputs: Sequence[Tensor], shape: Shape, dtype: str) -> Operation:
    """Weight [out, in of a group, *kernel]."""
    return Operation(LINEAR, dtype, 2 * prod(shape) * prod(inputs[1].shape[1:]), (1, 1))


def _fused_attention(inputs: Sequence[Tensor], shape: Shape, dtype: str) -> Operation:
    """[B, heads, S, d]: queries by keys, scores by values; backward makes the scores once more."""
    q, k, v = inputs[:3]
    return Operation(ATTENTION, dtype, 2 * prod(q.shape[:3]) * k.shape[2] * (q.shape[3] + v.shape[3]), (), 2.5)


def _head(inputs: Sequence[Tensor], _shape: Shape, dtype: str) -> Operation:
    """Hidden states [T, H] by an output head [V, H], fused with the loss."""
    return Operation(LINEAR, dtype, 2 * inputs[0].numel * inputs[1].shape[0], (1, 1))


def _recomputed_head(inputs: Sequence[Tensor], shape: Shape, dtype: str) -> Operation:
    """The same, whose backward makes the logits once more."""
    return _head(inputs, shape, dtype)._replace(again=1.0)


HEADS: Mapping[str, Rule] = MappingProxyType(
    {
        "liger loss": _head,
        "unsloth loss": _head,
        "cut cross entropy": _recomputed_head,
        "chunked loss": _recomputed_head,
    }
)
"""Operators that take the loss themselves, whose output's dtype is not that of their products."""


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "linear": _linear,
        "linear4bit": _linear,
        "linear8bit": _linear,
        "linear_nf4": _linear,
        "linear_hqq": _linear,
        "linear_quanto": _linear,
        "linear_awq": _linear,
        "grouped_mm": _linear,
        "matmul": _product,
        "bmm": _product,
        "baddbmm": _merged,
        "convolution": _convolution,
        "conv1d": _convolution,
        "flash attention": _fused_attention,
        "efficient attention": _fused_attention,
        **HEADS,
    }
)
"""By the operator's name on the tape."""


class Meter:
    """Adds up what one micro batch takes."""

    __slots__ = ("_done",)

    def __init__(self) -> None:
        self._done: dict[tuple[str, str, str, bool], int] = {}

    def reset(self) -> None:
        """Another micro batch begins."""
        self._done.clear()

    def add(self, part: str, kind: str, dtype: str, flops: float, *, layers: bool) -> None:
        """Count `flops` of a part of the step (forward, backward, recomputed), inside or outside of layers."""
        key = (part, kind, dtype, layers)
        self._done[key] = self._done.get(key, 0) + round(flops)

    def read(self) -> tuple[Work, ...]:
        """What was counted."""
        return tuple(Work(*key, flops) for key, flops in sorted(self._done.items()) if flops)


def of_backward(operation: Operation, needed: Sequence[bool]) -> float:
    """FLOPs of an operator's derivative, given which inputs need a gradient."""
    wanted = sum(share for share, needs in zip(operation.gradients, needed, strict=False) if needs)
    return operation.flops * (operation.again * any(needed) + wanted)
