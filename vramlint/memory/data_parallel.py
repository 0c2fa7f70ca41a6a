"""torch.nn.DataParallel: one process whose first GPU has the model, and replicas of it on the others for every step.

torch 2.13 torch/nn/parallel/data_parallel.py, replicate.py, _functions.py (Broadcast, Gather, ReduceAddCoalesced),
comm.py: the first GPU's replica shares the model's own parameters, the others get copies; outputs are gathered on the
first; gradients of all replicas are complete when their sum is made there, in tensors of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from vramlint.job import Job
from vramlint.memory.holdings import Tensors
from vramlint.memory.rank import Sharding
from vramlint.memory.tensor import Parameter

STRATEGY = "dataparallel"
FIRST = 0
_OF_BITSANDBYTES = frozenset({"nf4", "fp4", "int8"})


def is_spread(job: Job) -> bool:
    """Whether several GPUs have replicas of the model, which the Trainer spares bitsandbytes' (trainer.py:2667)."""
    if job.parallelism.strategy != STRATEGY or job.parallelism.world_size < 2 or job.objective.kind != "training":
        return False
    exempt = job.quantization is not None and job.quantization.kind in _OF_BITSANDBYTES
    return not (exempt and job.objective.loop == "trainer")


def gpu_of(job: Job, number: int) -> Job:
    """The job of one GPU.

    The Trainer hands the wrapped model to accelerate no more, so that nothing runs under autocast (transformers 5.23
    trainer.py:1738-1769); a loop of one's own keeps its own, which every thread takes over (parallel_apply.py).
    """
    precision = job.precision
    if job.objective.loop == "trainer":
        precision = replace(precision, autocast=None)
    return replace(job, precision=precision, parallelism=replace(job.parallelism, rank=number))


def is_replica(job: Job) -> bool:
    """Whether it is a GPU without the model itself, whose replica is gone behind every backward."""
    return is_spread(job) and job.parallelism.rank not in {None, FIRST}


def holdings(job: Job, sharding: Sharding) -> Sharding:
    """What one GPU holds: a replica has weights, and nothing of the optimizer."""
    if not is_replica(job):
        return sharding
    kept = tuple(tensors for tensors in sharding.persistent if tensors.component != "optimizer states")
    return replace(sharding, persistent=kept, states=(), whole=False, host=0)


def gradients_of(parameters: Sequence[Parameter]) -> tuple[Tensors, ...]:
    """One gradient of each parameter."""
    return tuple(Tensors.of("gradients", p, p.nbytes) for p in parameters)
