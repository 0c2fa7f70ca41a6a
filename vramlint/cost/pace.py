"""How long a step takes, as far as plans have to be ordered: with what smaller micro batches read again and again."""

from __future__ import annotations

from math import sqrt

from msgspec import Struct
from msgspec.structs import replace

from vramlint.cost.compute import busiest, flops
from vramlint.cost.price import load, traffic_of
from vramlint.cost.rates import Rates, rates_of
from vramlint.cost.slowdown import BY_TIME, BY_WORK
from vramlint.estimate import Estimate, Slowdown
from vramlint.job import DTYPE_BYTES, Job

PER_BYTE = 100
"""Floating-point operations that a card of unknown rates does in the time of one byte of its memory: RTX 3090 76,
A100 153, by their data sheets. It orders changes of the micro batch, nothing else."""


class Pace(Struct, frozen=True):
    """Time of a step in a unit of its own: seconds, or operations where the card's rates are not known."""

    beside: float
    """Traffic runs beside the products."""
    apart: float
    """It runs after them."""
    seconds: bool
    left_out: bool = False
    """Traffic that a step has and that is not counted: between machines, over links of no known rate."""


def pace(job: Job, estimate: Estimate) -> Pace | None:
    """The pace of a job, given its estimate; None where no training step was simulated.

    Every micro batch reads the weights once for each pass and adds to their gradients, however few rows it has: what
    a product of few rows takes at least (S. Williams et al., Roofline, doi:10.1145/1498765.1498785).
    """
    if not estimate.work:
        return None
    rates = rates_of(job.gpu)
    found = load(job, estimate, traffic_of(job, estimate), rates)
    again = _read_again(job, estimate)
    half = _half(rates)
    if isinstance(found, str) or rates is None or not rates.memory:
        operations = flops(busiest(job, estimate)) * job.batch.gradient_accumulation_steps
        again *= PER_BYTE
        left_out = any(item.link != "memory" for item in traffic_of(job, estimate))
        return Pace(max(operations, again), operations + again, seconds=False, left_out=left_out)
    seconds = again / rates.memory
    bound = max(found.compute / half, seconds) * half
    return Pace(replace(found, compute=bound).beside(half), found.apart(half) + seconds, seconds=True)


def ratio(before: Pace | None, after: Pace | None) -> float | None:
    """Time of a step after over that before, between both bounds; None where they are not of one kind."""
    if before is None or after is None or before.seconds != after.seconds:
        return None
    return sqrt(after.beside / before.beside * after.apart / before.apart)


def _half(rates: Rates | None) -> float:
    """The middle of the utilisation that programs reach."""
    reached = rates.utilisation if rates is not None else None
    return sqrt(reached.least * reached.most) if reached is not None else 1.0


def _read_again(job: Job, estimate: Estimate) -> float:
    """Bytes that all micro batches of a step read of weights, and read and write of gradients."""
    width = DTYPE_BYTES[job.precision.autocast or job.precision.weights]
    passes = 3 if any(item.part == "recomputed" for item in estimate.work) else 2
    stored = DTYPE_BYTES.get(job.precision.weights, width)
    each = passes * estimate.total_parameters * width + 2 * estimate.trainable_parameters * stored
    return float(each * job.batch.gradient_accumulation_steps)


def slowdown_between(before: Pace | None, after: Pace | None, assumed: float = 1.0) -> Slowdown | None:
    """Time of a step after a change over that before it; None where the two are not of one kind.

    Args:
        before: the pace before.
        after: the pace after.
        assumed: a further factor, of what is not counted.
    """
    if before is None or after is None or before.seconds != after.seconds:
        return None
    least, most = sorted((assumed * after.beside / before.beside, assumed * after.apart / before.apart))
    left_out = "traffic of no known rate" if after.left_out else ""
    return Slowdown(least, most, BY_TIME if after.seconds else BY_WORK, "an assumption" if assumed > 1 else left_out)
