"""The cost of an optimizer step of a job."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.cost import compute
from vramlint.cost.communication import communication
from vramlint.cost.megatron import bubble
from vramlint.cost.rates import Rates, rates_of
from vramlint.cost.timing import Load, load_of
from vramlint.cost.traffic import offloaded, updated
from vramlint.estimate import Cost, Duration, Estimate, Traffic, Work
from vramlint.job import Job

UNCOUNTED = (
    "element-wise operators, an optimizer's own products (Muon, Shampoo) and weights that are dequantized are left out"
)


def cost_of(job: Job, estimate: Estimate) -> Cost | None:
    """What a step of `job` computes and moves, given its estimate; None where no training step was simulated."""
    if not estimate.work or job.objective.kind != "training":
        return None
    work = compute.busiest(job, estimate)
    traffic = traffic_of(job, estimate)
    duration, why = _duration(job, work, traffic)
    return Cost(
        forward=compute.flops(work, "forward"),
        backward=compute.flops(work, "backward"),
        recomputed=compute.flops(work, "recomputed"),
        attention=compute.flops(work, kind="attention"),
        step=compute.whole_step(job, estimate),
        micro_batches=job.batch.gradient_accumulation_steps,
        gpus=max(1, job.parallelism.world_size),
        tokens=compute.tokens(job),
        traffic=traffic,
        bubble=bubble(job),
        duration=duration,
        notes=(UNCOUNTED, *((f"no time: {why}",) if why else ())),
    )


def traffic_of(job: Job, estimate: Estimate) -> tuple[Traffic, ...]:
    """All that one GPU moves in a step."""
    found = (*communication(job, estimate), *offloaded(job, estimate), *updated(job, estimate))
    return tuple(item for item in found if item.bytes)


def load(job: Job, work: Sequence[Work], traffic: Sequence[Traffic], rates: Rates | None) -> Load | str:
    """The load of a step, or what is not known."""
    if rates is None:
        return "no GPU is declared, or the catalog does not know its rates"
    batches = job.batch.gradient_accumulation_steps
    return load_of(work, batches, bubble(job), traffic, rates, job.parallelism.nodes)


def _duration(job: Job, work: Sequence[Work], traffic: Sequence[Traffic]) -> tuple[Duration | None, str]:
    rates = rates_of(job.gpu)
    found = load(job, work, traffic, rates)
    if isinstance(found, str) or rates is None:
        return None, found if isinstance(found, str) else ""
    if rates.utilisation is None:
        assumption = "at the vendor's full rate: no measured utilisation of such a card is known"
        return Duration(found.beside(1.0), None, assumption), ""
    low, high = rates.utilisation
    reached = f"{low:.0%} to {high:.0%} of the card's 16-bit rate (HFU), as training reaches on {rates.measured_on}"
    assumption = f"{reached}; links at the vendor's rate, beside the products or after them"
    return Duration(found.beside(high), found.apart(low), assumption), ""
