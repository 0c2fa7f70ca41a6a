"""The cost of an optimizer step of a job."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.cost import compute
from vramlint.cost.communication import communication
from vramlint.cost.megatron import bubble
from vramlint.cost.rates import Rates, rates_of
from vramlint.cost.timing import UNPACKING, UPDATES, Load, load_of
from vramlint.cost.traffic import computed, offloaded, updated
from vramlint.estimate import Cost, Duration, Estimate, Traffic
from vramlint.job import Job

UNCOUNTED = (
    "element-wise operators and an optimizer's own products (Muon, Shampoo) are left out; of what they move, only the "
    "update, eager attention's scores, logits and unpacked weights are counted"
)
BILLION = 10**9


def cost_of(job: Job, estimate: Estimate) -> Cost | None:
    """What a step of `job` computes and moves, given its estimate; None where no training step was simulated."""
    if not estimate.work or job.objective.kind != "training":
        return None
    work = compute.busiest(job, estimate)
    traffic = traffic_of(job, estimate)
    duration, why = _duration(job, estimate, traffic)
    return Cost(
        forward=compute.flops(work, "forward"),
        backward=compute.flops(work, "backward"),
        recomputed=compute.flops(work, "recomputed"),
        attention=compute.flops(work, kind="attention"),
        step=compute.whole_step(job, estimate),
        micro_batches=job.batch.gradient_accumulation_steps,
        gpus=job.parallelism.gpus,
        tokens=compute.tokens(job),
        traffic=traffic,
        bubble=bubble(job),
        duration=duration,
        notes=(UNCOUNTED, *((f"no time: {why}",) if why else ())),
    )


def traffic_of(job: Job, estimate: Estimate) -> tuple[Traffic, ...]:
    """All that one GPU moves in a step."""
    found = (
        *communication(job, estimate),
        *offloaded(job, estimate),
        *computed(job, estimate),
        *updated(job, estimate),
    )
    return tuple(item for item in found if item.bytes)


def load(job: Job, estimate: Estimate, traffic: Sequence[Traffic], rates: Rates | None) -> Load | str:
    """The load of a step, or what is not known."""
    if rates is None:
        return "no GPU is declared, or the catalog does not know its rates"
    work, batches = compute.busiest(job, estimate), job.batch.gradient_accumulation_steps
    return load_of(work, batches, bubble(job), traffic, rates, job.parallelism.nodes, _update(job, estimate))


def _update(job: Job, estimate: Estimate) -> tuple[float, float]:
    """Seconds in which the cores of one machine update what its processes have offloaded."""
    spread, zero = job.parallelism, job.parallelism.zero
    offloads = (
        spread.fsdp_offload if spread.strategy == "fsdp" else zero is not None and zero.offload_optimizer != "none"
    )
    seconds = UPDATES.get(spread.strategy)
    if not offloads or seconds is None:
        return 0.0, 0.0
    sharing = spread.sharing if spread.strategy == "fsdp" else max(1, spread.world_size)
    held = estimate.trainable_parameters * min(spread.ranks_per_node, sharing) / sharing / BILLION
    return held * seconds[0], held * seconds[1]


def _duration(job: Job, estimate: Estimate, traffic: Sequence[Traffic]) -> tuple[Duration | None, str]:
    rates = rates_of(job.gpu)
    found = load(job, estimate, traffic, rates)
    if isinstance(found, str) or rates is None:
        return None, found if isinstance(found, str) else ""
    if rates.utilisation is None:
        assumption = "at the vendor's full rate: neither utilisation nor memory bandwidth of such a card is known"
        return Duration(found.beside(1.0), None, assumption), ""
    low, high, source, _ = rates.utilisation
    reached = f"{low:.0%} to {high:.0%} of the card's rate (HFU), {source}"
    assumption = f"{reached}; links at the vendor's rate, beside the products or after them"
    return Duration(found.beside(high), found.apart(low), f"{assumption}{_further(found)}"), ""


def _further(found: Load) -> str:
    """What else the time assumes."""
    parts = ""
    if found.unpacking:
        low, high = UNPACKING
        parts += f"; 4-bit weights unpacked at {low:.0%} to {high:.0%} of the memory's bandwidth, as on A10G"
    if found.update[1]:
        parts += f"; {found.update[0]:.2g} to {found.update[1]:.2g} s for the update by the host's cores"
    return parts
