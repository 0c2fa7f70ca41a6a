"""How much longer a step takes after a change of the job."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from vramlint.cost.compute import busiest, flops
from vramlint.cost.price import load, traffic_of
from vramlint.cost.rates import rates_of
from vramlint.cost.timing import Load
from vramlint.estimate import Estimate, Slowdown, Traffic
from vramlint.job import Job

BY_WORK = "time goes with floating-point operations"
BY_TIME = "products at one utilisation, links and memory at the vendor's rate, beside the products or after them"
BETWEEN, IN_MEMORY = "traffic between GPUs", "traffic through the GPU's memory"
APART = 0.1
"""Difference in traffic through the GPU's memory from which FLOPs alone say too little."""


def slowdown(before: tuple[Job, Estimate], after: tuple[Job, Estimate]) -> Slowdown | None:
    """The step of `after` over that of `before`; None where a rate is not known, or nothing was counted.

    At the middle of the card's utilisation, where it is known, with traffic beside the products and behind them; by
    FLOPs alone where no rates are known.
    """
    (job, estimate), (changed, found) = before, after
    if not estimate.work or not found.work:
        return None
    traffic = traffic_of(job, estimate), traffic_of(changed, found)
    rates = rates_of(job.gpu)
    first = load(job, estimate, traffic[0], rates)
    second = load(changed, found, traffic[1], rates)
    if isinstance(first, str) or isinstance(second, str) or rates is None or rates.utilisation is None:
        return None if _grows(traffic, "host") else _by_work(before, after, _left_out(traffic))
    half = sqrt(rates.utilisation.least * rates.utilisation.most)
    factors = sorted((second.beside(half) / first.beside(half), second.apart(half) / first.apart(half)))
    return Slowdown(factors[0], factors[1], f"{BY_TIME}{_of_host(first, second)}")


def _of_host(first: Load, second: Load) -> str:
    least, most = (after - before for before, after in zip(first.update, second.update, strict=True))
    return f"; {least:.2g} to {most:.2g} s of a machine's cores for the update" if most > 0 else ""


def middle(found: Slowdown) -> float:
    """What plans are ordered by."""
    return sqrt(found.least * found.most)


def _left_out(traffic: tuple[Sequence[Traffic], Sequence[Traffic]]) -> str:
    before, after = (sum(item.bytes for item in each if item.link == "memory") for each in traffic)
    if abs(after - before) > APART * max(before, after):
        return IN_MEMORY
    return BETWEEN if _grows(traffic, "gpus") else ""


def _grows(traffic: tuple[Sequence[Traffic], Sequence[Traffic]], link: str) -> bool:
    before, after = (sum(item.bytes for item in each if item.link == link) for each in traffic)
    return after > before


def _by_work(before: tuple[Job, Estimate], after: tuple[Job, Estimate], left_out: str) -> Slowdown | None:
    counts, dtypes = [], []
    for job, estimate in (before, after):
        work = busiest(job, estimate)
        counts.append(flops(work) * job.batch.gradient_accumulation_steps)
        dtypes.append(max({item.dtype for item in work}, key=lambda name: flops([w for w in work if w.dtype == name])))
    if dtypes[0] != dtypes[1]:
        return None
    factor = counts[1] / counts[0]
    return Slowdown(factor, factor, BY_WORK, left_out)
