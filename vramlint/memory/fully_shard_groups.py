"""Which parameters FSDP 2 shards together: as accelerate prepares a model, or layer by layer and the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from vramlint.job import DTYPE_BYTES, Job
from vramlint.memory.fully_shard import EMBEDDING, EXPERTS, ROOT, TAIL, Group, Groups, Key, name_of
from vramlint.memory.recorder import rounded
from vramlint.memory.tensor import Parameter

OF_NORMS = ("norm", "ln_f", "layernorm")
"""Parts of the names of a model's final norm."""


def share_of(parameter: Parameter, world: int) -> int:
    """Elements of one rank's rows of a parameter (torch 2.13 _fsdp_param.py, _init_sharded_param)."""
    world, dimension = parameter.shared_by or (world, 0)
    rows = parameter.shape[dimension] if parameter.shape else 1
    return -(-rows // world) * (parameter.numel // max(1, rows))


def is_widened(job: Job, parameter: Parameter) -> bool:
    """Whether accelerate makes a parameter float32 before it is sharded (1.15 utils/fsdp_utils.py:814-827)."""
    return parameter.requires_grad and job.precision.autocast is not None


def groups_of(job: Job, parameters: Sequence[Parameter], ranks: int) -> Groups:
    """The groups of a model that `ranks` share."""
    parallelism = job.parallelism
    computed = job.precision.autocast
    reduction = parallelism.fsdp_reduce_dtype or computed
    ends = not parallelism.fsdp_by_layers_alone and parallelism.fsdp_wraps_layers
    tied = ends and not any(p.layer is None and _is_head(p) for p in parameters)
    sizes: defaultdict[Key, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    of: dict[str, Key] = {}
    last: dict[Key, str] = {}
    for p in parameters:
        key = _key(p, ends=ends, tied=tied, wraps=parallelism.fsdp_wraps_layers)
        of[name_of(p)] = key
        found, count = sizes[key], p.multiplicity if key == ROOT else 1
        share, shared = share_of(p, ranks), p.shared_by[0] if p.shared_by else ranks
        stored = DTYPE_BYTES["float32" if is_widened(job, p) else p.dtype]
        width = DTYPE_BYTES[computed] if computed else DTYPE_BYTES[p.dtype]
        if p.stored_tensors[0] != p.nbytes:  # packed: gathered as it is stored, and never cast
            part = -(-p.stored_tensors[0] // ranks)
            found["gathered"] += rounded(part * ranks) * count
            found["cast"] += part * count if parallelism.fsdp_offload else 0
            continue
        found["gathered"] += rounded(share * shared * width) * count
        found["ranks"], found["inner"] = shared, bool(p.shared_by and p.shared_by[1])
        if parallelism.fsdp_offload:
            found["cast"] += (share * stored + (share * width if stored != width else 0)) * count
        elif stored != width:
            found["cast"] += share * width * count
        if p.requires_grad:
            reduced = DTYPE_BYTES[reduction] if reduction else width
            found["trained"] += count
            found["reduced"] += share * shared * reduced * count
            found["width"], found["grown"] = reduced, max(1, stored // reduced)
            if key != TAIL or not _is_norm(p) or key not in last:
                last[key] = name_of(p)
    by_key = {
        key: Group(
            one["gathered"],
            one["cast"],
            one["trained"],
            one["reduced"],
            one["width"] or 2,
            one["grown"] or 1,
            one["ranks"] or ranks,
            bool(one["inner"]),
        )
        for key, one in sizes.items()
    }
    return Groups(
        by_key,
        of,
        last,
        ranks,
        keeps=parallelism.fsdp_sharding == "grad-op",
        ends=ends,
        synchronises_every=1 if parallelism.sync_each_batch else min(2, job.batch.gradient_accumulation_steps),
        offloads=parallelism.fsdp_offload,
        replicated=parallelism.replicas > 1,
        times={_key(p, ends=ends, tied=tied, wraps=True): p.multiplicity for p in parameters if p.layer is not None},
        staged=parallelism.mesh is not None and parallelism.mesh.pipeline > 1,
        prefetches=any(p.shared_by for p in parameters),
        twins=any(p.twin for p in parameters),
    )


def _key(parameter: Parameter, *, ends: bool, tied: bool, wraps: bool) -> Key:
    """The embedding alone, final norm and head together, with it if tied (accelerate 1.15 utils/fsdp_utils.py:857)."""
    if parameter.layer is not None and wraps:
        return (*parameter.layer, EXPERTS) if parameter.shared_by else parameter.layer
    if parameter.layer is not None:
        return ROOT
    if not ends:
        return ROOT
    if parameter.embedding:
        return TAIL if tied else EMBEDDING
    return TAIL if _is_head(parameter) or _is_norm(parameter) else ROOT


def _is_head(parameter: Parameter) -> bool:
    return parameter.head or "head" in parameter.name.lower()


def _is_norm(parameter: Parameter) -> bool:
    return any(word in parameter.name.lower() for word in OF_NORMS)
