"""Gradient clipping and unscaling before the step (torch 2.13 nn/utils/clip_grad.py, amp/grad_scaler.py)."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.job import DTYPE_BYTES
from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.memory import Memory, by_dtype


def clip_by_norm(memory: Memory, parameters: Sequence[Parameter]) -> object:
    """`clip_grad_norm_`: all gradients' norms, stacked, and the coefficient. Returns the norm, which loops keep."""
    if not parameters:
        return None
    dtype = max((parameter.dtype for parameter in parameters), key=DTYPE_BYTES.__getitem__)
    count = sum(parameter.multiplicity for parameter in parameters)
    norms = [memory.list_of(members, lambda _: ()) for members in by_dtype(parameters)]
    stacked = memory.empty((count,), dtype)
    total = memory.scalar(dtype)
    del stacked, norms
    coefficient = memory.scalar(dtype)
    clamped = memory.like(coefficient)
    del coefficient, clamped
    return total


def unscale(memory: Memory) -> object:
    """`GradScaler.unscale_`, in place; whether infinities were found is kept until the scale is updated."""
    found = memory.scalar()
    inverse = memory.scalar()
    return found, inverse


def clip_one(memory: Memory, dtype: str) -> None:
    """`clip_grad_norm_` of one parameter alone."""
    norm = memory.scalar(dtype)
    stacked = memory.scalar(dtype)
    total = memory.scalar(dtype)
    del norm, stacked
    coefficient = memory.scalar(dtype)
    clamped = memory.like(coefficient)
    del total, coefficient, clamped
