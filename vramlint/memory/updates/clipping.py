"""Gradient clipping and unscaling before the step (torch 2.13 nn/utils/clip_grad.py, amp/grad_scaler.py)."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.job import DTYPE_BYTES
from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.memory import Many, Memory, by_dtype

CHUNK = 65536
"""Elements whose norm one block of the kernel takes (torch 2.13 native/cuda/MultiTensorApply.cuh, kChunkSize)."""


def clip_by_norm(memory: Memory, parameters: Sequence[Parameter], *, partial: bool = True) -> object:
    """`clip_grad_norm_`: all gradients' norms, stacked, and the coefficient. Returns the norm, which loops keep.

    Without `partial` the kernel's partial norms are left out: where gradients are sharded, and where the step is traced
    operator by operator.
    """
    if not parameters:
        return None
    dtype = max((parameter.dtype for parameter in parameters), key=DTYPE_BYTES.__getitem__)
    count = sum(parameter.multiplicity for parameter in parameters)
    norms = [_norms(memory, members) for members in by_dtype(parameters)] if partial else [memory.scalars(count, dtype)]
    stacked = memory.empty((count,), dtype)
    total = memory.scalar(dtype)
    del stacked, norms
    _coefficient(memory, dtype)
    return total


def clip_one(memory: Memory, parameter: Parameter) -> None:
    """`clip_grad_norm_` of one parameter alone."""
    partial = memory.empty((-(-parameter.numel // CHUNK),), "float32")
    norm = memory.scalar(parameter.dtype)
    del partial
    stacked = memory.scalar(parameter.dtype)
    total = memory.scalar(parameter.dtype)
    del norm, stacked
    _coefficient(memory, parameter.dtype)
    del total


def _coefficient(memory: Memory, dtype: str) -> None:
    coefficient = memory.scalar(dtype)
    clamped = memory.like(coefficient)
    del coefficient, clamped


def _norms(memory: Memory, members: Sequence[Parameter]) -> Many:
    """`_foreach_norm`: as many partial norms of every gradient as the largest has (native/cuda/ForeachReduceOp.cu)."""
    count = sum(parameter.multiplicity for parameter in members)
    chunks = max(-(-parameter.numel // CHUNK) for parameter in members)
    partial = memory.empty((count * chunks,), "float32")
    norms = memory.scalars(count, members[0].dtype)
    del partial
    return norms


def unscale(memory: Memory) -> object:
    """`GradScaler.unscale_`, in place; whether infinities were found is kept until the scale is updated."""
    found = memory.scalar()
    inverse = memory.scalar()
    return found, inverse
