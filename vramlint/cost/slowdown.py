"""How much longer a step takes after a change of the job."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from vramlint.cost.compute import busiest, flops
from vramlint.cost.price import load, traffic_of
from vramlint.cost.rates import rates_of
from vramlint.estimate import Estimate, Slowdown, Traffic
from vramlint.job import Job

BY_WORK = "time goes with floating-point operations"
BY_TIME = "products at one utilisation, links at the vendor's rate, beside the products or after them"
ON_HOST, BETWEEN = "the host's update", "traffic between GPUs"


def slowdown(before: tuple[Job, Estimate], after: tuple[Job, Estimate]) -> Slowdown | None:
    """The step of `after` over that of `before`; None where the products change their rate, or were not counted.

    At the middle of the card's utilisation, where it is known, with traffic beside the products and behind them; by
    FLOPs alone where no rates are known.
    """
    (job, estimate), (changed, found) = before, after
    if not estimate.work or not found.work:
        return None
    traffic = traffic_of(job, estimate), traffic_of(changed, found)
    rates = rates_of(job.gpu)
    first = load(job, busiest(job, estimate), traffic[0], rates)
    second = load(changed, busiest(changed, found), traffic[1], rates)
    moves = _grows(traffic, "host")
    if isinstance(first, str) or isinstance(second, str) or rates is None or rates.utilisation is None:
        return None if moves else _by_work(before, after, BETWEEN if _grows(traffic, "gpus") else "")
    half = sqrt(rates.utilisation[0] * rates.utilisation[1])
    factors = sorted((second.beside(half) / first.beside(half), second.apart(half) / first.apart(half)))
    return Slowdown(factors[0], factors[1], BY_TIME, ON_HOST if moves else "")


def middle(found: Slowdown) -> float:
    """What plans are ordered by."""
    return sqrt(found.least * found.most)


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
