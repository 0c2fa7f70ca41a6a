"""FSDP over a model that every rank has whole on its device: one unit after the other becomes a share.

FSDP 1 puts a unit's parameters into a flat one and copies the share out of it before both are freed (torch 2.13
distributed/fsdp/_flat_param.py, flatten_tensors_into_flat_param and shard). fully_shard copies the shares of a group's
parameters before these are freed (_fully_shard/_fsdp_param.py, _init_sharded_param).
"""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.job import DTYPE_BYTES, Job
from vramlint.memory.recorder import rounded
from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.memory import by_layer


def sharding_peak(job: Job, parameters: Sequence[Parameter]) -> int:
    """Bytes of weights at the highest point of the sharding; 0 where no rank has the whole model."""
    parallelism = job.parallelism
    if job.loading is None or not job.loading.whole or parallelism.strategy != "fsdp" or parallelism.world_size < 2:
        return 0
    width, ranks = DTYPE_BYTES[job.precision.weights], parallelism.sharing
    ranks = 1 if parallelism.fsdp_sharding == "none" else ranks
    alive = highest = sum(rounded(width * p.numel) * p.multiplicity for p in parameters)
    for times, members in _units(parameters, wraps=parallelism.fsdp_wraps_layers):
        full = sum(rounded(width * p.numel) * count for p, count in members)
        flat = width * sum(p.numel * count for p, count in members)
        if parallelism.fsdp_version == 2:
            kept = taken = sum(rounded(-(-width * p.numel // ranks)) * count for p, count in members)
        else:
            kept = rounded(-(-flat // ranks))
            taken = rounded(flat) + kept
        highest = max(highest, alive + taken)
        alive -= times * (full - kept)
    return highest


def _units(parameters: Sequence[Parameter], *, wraps: bool) -> list[tuple[int, list[tuple[Parameter, int]]]]:
    """Each unit with how many like it there are, the root last; parameters with how many of them are in it."""
    if not wraps:
        return [(1, [(p, p.multiplicity) for p in parameters])]
    layers = [
        (times, [(p, 1) for p in members]) for times, members in by_layer(parameters) if members[0].layer is not None
    ]
    root = [(p, 1) for p in parameters if p.layer is None]
    return [*layers, (1, root)] if root else layers
