"""More GPUs: how many of the same kind it takes for a run whose GPUs share the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from msgspec.structs import replace

from vramlint.estimate import Estimate
from vramlint.job import Gpu, Job, Parallelism

DOUBLINGS = 5
"""How often the number of GPUs is doubled."""
PER_MACHINE = 8
"""GPUs of the machines that are added, where the run fills no larger ones."""


def gpus_needed(job: Job, gpu: Gpu, simulate: Callable[[Job], Estimate], headroom: float) -> int | None:
    """The least number of GPUs, by doublings, on which the run fits as it is.

    The global batch stays, where gradient accumulation can be divided. None where more GPUs hold no less each, or
    where none of the numbers is enough.

    Args:
        job: the run.
        gpu: of each.
        simulate: the memory model, without the allocator.
        headroom: fraction of the usable memory to stay within.
    """
    if not divides(job.parallelism):
        return None
    limit = headroom * gpu.usable_bytes

    def fits(doublings: int) -> bool:
        found = simulate(spread(job, 1 << doublings))
        return found.method == "simulated" and found.device_high <= limit

    if not fits(DOUBLINGS):
        return None
    return spread(job, 1 << least(DOUBLINGS, fits)).parallelism.world_size


def least(most: int, suits: Callable[[int], bool]) -> int:
    """The least number from 1 up to `most`, which suits, that suits as all above it do."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if suits(middle) else (middle + 1, high)
    return high


def divides(shared: Parallelism) -> bool:
    """Whether more GPUs hold less each: ZeRO, FSDP over all ranks, Megatron's distributed optimizer."""
    if shared.mesh is not None:
        return False
    if shared.strategy == "fsdp":
        return shared.fsdp_sharding != "none" and shared.replicas == 1
    by_zero = shared.zero is not None and shared.zero.stage > 0
    return by_zero or (shared.megatron is not None and shared.megatron.distributed_optimizer)


_LAUNCHED: Mapping[str, str] = MappingProxyType(
    {"none": "ddp", "dataparallel": "ddp", "ddp": "ddp", "deepspeed": "deepspeed", "fsdp": "fsdp"}
)
"""How processes share the model of a run, by how its GPUs share it so far."""


def launched(job: Job, gpus: int) -> Job | None:
    """The job with a process on each of `gpus` GPUs; None where it has as many, or shares its model in other ways."""
    shared = job.parallelism
    plain = shared.mesh is None and shared.megatron is None and shared.neox is None and shared.sequence is None
    if not plain or shared.nodes > 1 or shared.strategy not in _LAUNCHED:
        return None
    alone = shared.strategy == "dataparallel"  # one process for all of them, in batches as large
    if gpus % shared.world_size or (shared.world_size >= gpus and not alone):
        return None
    larger = spread(job, gpus // shared.world_size)
    return replace(larger, parallelism=replace(larger.parallelism, strategy=_LAUNCHED[shared.strategy]))


def spread(job: Job, times: int) -> Job:
    """The job on `times` as many GPUs."""
    shared, batch = job.parallelism, job.batch
    world = shared.world_size * times
    each = max(PER_MACHINE, shared.world_size // shared.nodes)
    accumulation = batch.gradient_accumulation_steps
    divided = accumulation // times if accumulation % times == 0 else accumulation
    return replace(
        job,
        parallelism=replace(shared, world_size=world, nodes=max(shared.nodes, -(-world // each))),
        batch=replace(batch, gradient_accumulation_steps=divided),
    )
