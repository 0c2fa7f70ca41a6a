"""What DeepSpeed's ZeRO changes in one rank's step, stage by stage.

Figures are DeepSpeed 0.19.8's (runtime/zero/stage_1_and_2.py, stage3.py, runtime/fp16/fused_optimizer.py,
runtime/bf16_optimizer.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vramlint.job import DTYPE_BYTES, Job, Zero
from vramlint.memory import optimizers
from vramlint.memory.holdings import Tensors
from vramlint.memory.rank import Sharding, engine_precision, states_of, weights_of
from vramlint.memory.tensor import LayerId, Parameter
from vramlint.memory.zero_buckets import COMMUNICATION, Buckets
from vramlint.memory.zero_partition import Piece, in_order, partition_of, schedule_of

NORM_BYTES = 8
"""Norms of gradients are taken in float64, of one gradient after the other (stage_1_and_2.py:2648)."""
MASTER_BYTES = 4
"""ZeRO and FSDP with mixed precision keep float32 master weights."""
GATHERED_LAYERS = 2
"""Units in flight: the one that runs and the one that is prefetched (FSDP's all-gather limiter; ZeRO-3's prefetch)."""


def zero_sharding(
    job: Job, zero: Zero, parameters: Sequence[Parameter], fixed: tuple[Tensors, ...], no_decay: Collection[int]
) -> Sharding:
    """One rank's holdings under a stage; `no_decay` are the ids of the parameters of the second group."""
    if zero.stage in {1, 2}:
        return _partitioned(job, zero, weights_of(parameters, fixed), parameters, no_decay)
    width = DTYPE_BYTES[engine_precision(job)[0]]
    trainable = [p for p in parameters if p.requires_grad]
    part = -(-_elements(trainable) // max(1, job.parallelism.world_size))
    if zero.stage == 0:
        return _stage_0(job, parameters, fixed, width, part * job.parallelism.world_size)
    offloaded = zero.offload_optimizer != "none"
    master: tuple[Tensors, ...] = (Tensors("master weights", MASTER_BYTES * part),)
    states = tuple(Tensors("optimizer states", size) for size in _flat_states(job, part))
    # one moment of the step: gradients flattened and cast to float32 beside the averaged ones, in stage 3 of one
    # sub-group after the other (runtime/zero/stage3.py, step)
    group = min(part, zero.sub_group_size) if zero.stage == 3 else part
    sizes = (width * group, MASTER_BYTES * group, _flat_temporaries(job, group))
    step = tuple(Tensors("temporaries", size) for size in sizes)
    host = 0
    if offloaded:
        # master, float32 gradients, states and 16-bit staging (stage_1_and_2.py, cpu_offload)
        host = sum(tensors.nbytes for tensors in (*master, *states))
        host += (MASTER_BYTES + width) * part + _host_states(job, part)
        largest = max((p.numel for p in trainable), default=0)
        master, states, step = (), (), (Tensors("temporaries", MASTER_BYTES * largest),)
    return _stage_3(job, zero, parameters, (*fixed, *master), states, step, host)


def _stage_0(
    job: Job, parameters: Sequence[Parameter], fixed: tuple[Tensors, ...], width: int, elements: int
) -> Sharding:
    """DeepSpeed without ZeRO: FP16_Optimizer keeps an unsharded float32 copy and flattens gradients at the step.

    Its states come with a dummy step at the start (runtime/fp16/fused_optimizer.py:125-135).
    """
    if width == MASTER_BYTES:
        return Sharding(weights_of(parameters, fixed), states_of(job, parameters), whole=True)
    master = [Tensors("master weights", MASTER_BYTES * elements)]
    master += [Tensors("optimizer states", size) for size in _flat_states(job, elements)]
    step = (Tensors("temporaries", MASTER_BYTES * elements, 2),)
    return Sharding((*weights_of(parameters, fixed), *master), (), optimizer=step)


def _partitioned(
    job: Job, zero: Zero, weights: tuple[Tensors, ...], parameters: Sequence[Parameter], no_decay: Collection[int]
) -> Sharding:
    """Stages 1 and 2: whole weights; a partition of master weights, states and, in stage 2, gradients."""
    world = max(1, job.parallelism.world_size)
    width = DTYPE_BYTES[engine_precision(job)[0]]
    trainable = [p for p in parameters if p.requires_grad]
    groups = [[p for p in trainable if (id(p) not in no_decay) is decays] for decays in (True, False)]
    groups = [group for group in groups if group]
    part = partition_of(groups, world, job.parallelism.rank)
    accumulates = zero.gradient_accumulation_dtype == "float32" and width < MASTER_BYTES
    offloaded = zero.offload_optimizer != "none"
    if zero.stage == 1 and accumulates and not offloaded:
        return _bf16_optimizer(job, weights, part.sizes, world)
    during = zero.stage == 2 or bool(zero.overlap_comm)
    arrivals = [piece for group in part.pieces for piece in group]
    if during:
        arrivals = _backwards(parameters, arrivals)
    master = [Tensors("master weights", MASTER_BYTES * size) for size in part.sizes]
    states = [Tensors("optimizer states", size) for part_size in part.sizes for size in _flat_states(job, part_size)]
    held = max((_flat_temporaries(job, size) for size in part.sizes), default=0)
    largest = max(part.sizes, default=0)
    own = MASTER_BYTES * sum(part.sizes) if accumulates else width * part.owned
    flat = width * largest if width < MASTER_BYTES or len(arrivals) > 1 else 0
    moments = (NORM_BYTES * part.largest_slice, flat + MASTER_BYTES * largest, MASTER_BYTES * largest + held)
    step: tuple[Tensors, ...] = (Tensors("temporaries", max(moments)),)
    host = 0
    persistent = [*weights, *master]
    if offloaded:
        total = sum(part.sizes)
        host = sum(tensors.nbytes for tensors in (*master, *states)) + (MASTER_BYTES + width) * total
        host += _host_states(job, total)
        buffer = Tensors(COMMUNICATION, width * max((p.numel for p in trainable), default=0))
        persistent, states, step, own = [*weights, buffer], [], (), 0
    buckets = Buckets(
        schedule_of(arrivals, zero.reduce_bucket_size),
        zero.reduce_bucket_size,
        width,
        zero.reduce_bucket_size * width,
        2 if zero.overlap_comm else 1,
        own,
        during,
        tuple(tuple(group) for group in groups),
        min(2, job.batch.gradient_accumulation_steps),
    )
    return Sharding(tuple(persistent), tuple(states), optimizer=step, units=buckets, host=host)


def _backwards(parameters: Sequence[Parameter], pieces: Sequence[Piece]) -> list[Piece]:
    """Pieces in the order of backward: the model's, from its end."""
    waiting: dict[int, list[Piece]] = {}
    for piece in pieces:
        waiting.setdefault(id(piece.parameter), []).append(piece)
    ordered = [waiting[id(p)].pop(0) for p in in_order(parameters) if id(p) in waiting]
    return ordered[::-1]


def _bf16_optimizer(job: Job, weights: tuple[Tensors, ...], sizes: Sequence[int], world: int) -> Sharding:
    """Stage 1 that accumulates in float32: every rank has all gradients, whole (runtime/bf16_optimizer.py:154-235)."""
    gradients = [Tensors("gradients", MASTER_BYTES * size * world) for size in sizes]
    master = [Tensors("master weights", MASTER_BYTES * size) for size in sizes]
    states = [Tensors("optimizer states", size) for part in sizes for size in _flat_states(job, part)]
    step = (Tensors("temporaries", max((_flat_temporaries(job, part) for part in sizes), default=0)),)
    return Sharding((*weights, *gradients, *master), tuple(states), optimizer=step)


def _stage_3(
    job: Job,
    zero: Zero,
    parameters: Sequence[Parameter],
    held: tuple[Tensors, ...],
    states: tuple[Tensors, ...],
    step: tuple[Tensors, ...],
    host: int,
) -> Sharding:
    world = max(1, job.parallelism.world_size)
    width = DTYPE_BYTES[engine_precision(job)[0]]
    small = [p for p in parameters if p.numel <= zero.parameter_persistence_threshold]
    total = sum(p.stored_bytes * p.multiplicity for p in parameters)
    trainable = _elements([p for p in parameters if p.requires_grad])
    persistent = [*held, Tensors("gathered parameters", sum(p.nbytes * p.multiplicity for p in small))]
    shard = -(-total // world)
    if zero.offload_parameters != "none":
        host += shard
    else:
        persistent.append(Tensors("weights", shard))
    persistent.append(Tensors("communication buffers", zero.reduce_bucket_size * width))
    if zero.offload_optimizer == "none":
        persistent.append(Tensors("gradients", -(-trainable // world) * width))
    # parameters whose next use is near are not released at the turn from forward to backward
    reused = min(_elements(parameters), zero.max_reuse_distance // 2) * width
    persistent.append(Tensors("gathered parameters", reused))
    gathered = _by_layer(parameters, GATHERED_LAYERS, None)
    return Sharding(
        tuple(persistent),
        states,
        backward=(Tensors("communication buffers", zero.reduce_bucket_size * width),),
        optimizer=step,
        consumes_gradients=True,
        gathered=gathered,
        host=host,
    )


def _elements(parameters: Sequence[Parameter]) -> int:
    return sum(p.numel * p.multiplicity for p in parameters)


def _flat(elements: int) -> Parameter:
    """One flat float32 partition."""
    return Parameter("flat partition", (elements,), "float32", trainable=True, multiplicity=1)


def _flat_states(job: Job, elements: int) -> list[int]:
    """Bytes of the optimizer's states over one flat partition."""
    update = optimizers.update_of(job)
    return [] if update is None or not elements else update.states(_flat(elements))


def _host_states(job: Job, elements: int) -> int:
    update = optimizers.update_of(job)
    return 0 if update is None else update.hosted(_flat(elements))


def _flat_temporaries(job: Job, elements: int) -> int:
    update = optimizers.update_of(job)
    return 0 if update is None else optimizers.held(update, [_flat(elements)])


def _by_layer(parameters: Sequence[Parameter], copies: int, width: int | None) -> dict[LayerId | None, int]:
    """Bytes of the gathered parameters of each layer kind; outside layers the largest one counts."""
    gathered: dict[LayerId | None, int] = {}
    for p in parameters:
        size = p.numel * width if width is not None and p.stored_tensors == (p.nbytes,) else p.stored_bytes
        if p.layer is None:
            gathered[None] = max(gathered.get(None, 0), size)
        else:
            gathered[p.layer] = gathered.get(p.layer, 0) + size * copies
    return gathered
