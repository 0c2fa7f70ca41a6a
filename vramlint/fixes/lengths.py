"""What a step needs when rows are shorter than their bound."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from vramlint.estimate import Estimate, Reach
from vramlint.job import Gpu, Job
from vramlint.resolve.assume import SHORTEST

UNIT = 64
"""Tokens to which a length that fits is rounded down."""
ROUNDS = 4
"""Simulations between the two ends: memory grows nearly evenly with the length, but for attention that is not fused."""

Simulate = Callable[[Job], Estimate]


def reach(job: Job, gpu: Gpu, simulate: Simulate) -> Reach:
    """What rows of `SHORTEST` tokens need, and how long rows may be with which the step fits.

    Args:
        job: one that doesn't fit with rows of its sequence length.
        gpu: the GPU.
        simulate: the memory model without the allocator.
    """
    shortest = simulate(with_length(job, SHORTEST))
    if shortest.device_low > gpu.usable_bytes or shortest.method != "simulated":
        return Reach(shortest, None)
    return Reach(shortest, _fitting(job, gpu.usable_bytes, simulate, shortest))


def with_length(job: Job, tokens: int) -> Job:
    """The job with rows of at most so many tokens; those that a decoder writes are shortened alike."""
    batch = job.batch
    target = None if batch.target_length is None else min(batch.target_length, tokens)
    return replace(job, batch=replace(batch, sequence_length=min(batch.sequence_length, tokens), target_length=target))


def _fitting(job: Job, usable: int, simulate: Simulate, shortest: Estimate) -> int:
    """The longest rows found with which the step fits, tokens."""
    fits, need = SHORTEST, shortest.device_low
    over, over_need = job.batch.sequence_length, simulate(job).device_low
    for _ in range(ROUNDS):
        if over - fits <= max(UNIT, over // 16):
            break
        share = (usable - need) / (over_need - need) if over_need > need else 0.5
        tokens = max(fits + UNIT, min(over - UNIT, int(fits + share * (over - fits)))) // UNIT * UNIT
        found = simulate(with_length(job, tokens)).device_low
        if found <= usable:
            fits, need = tokens, found
        else:
            over, over_need = tokens, found
    return fits
