"""What DeepSpeed's ZeRO changes in one rank's step, stage by stage.

Figures are DeepSpeed 0.19.8's (runtime/zero/stage_1_and_2.py, stage3.py, runtime/fp16/fused_optimizer.py,
runtime/bf16_optimizer.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from vramlint.job import DTYPE_BYTES, Job, Zero
from vramlint.memory import optimizers
from vramlint.memory.holdings import Tensors, unrounded
from vramlint.memory.ops.shared_sequences import ULYSSES
from vramlint.memory.rank import Sharding, engine_precision, states_of, weights_of
from vramlint.memory.tensor import Parameter
from vramlint.memory.zero_buckets import COMMUNICATION, NORM_BYTES, Buckets
from vramlint.memory.zero_coordinator import LEAVES, gathered_bytes
from vramlint.memory.zero_partition import Piece, Widened, flattened, in_order, partition_of, scattered
from vramlint.memory.zero_quantizer import QuantizedReduction, stored_bytes
from vramlint.memory.zero_wire import aligned, wire_of

FUSED = frozenset({"deepspeed_adamw", "adamw_apex_fused"})
"""Optimizers that FP16_Optimizer takes."""
MASTER_BYTES = 4
"""ZeRO and FSDP with mixed precision keep float32 master weights."""


def zero_sharding(
    job: Job, zero: Zero, parameters: Sequence[Parameter], fixed: tuple[Tensors, ...], no_decay: Collection[int]
) -> Sharding:
    """One rank's holdings under a stage; `no_decay` are the ids of the parameters of the second group."""
    if zero.stage in {1, 2} or _is_partitioned_pipeline(job, zero):
        return _partitioned(job, zero, fixed, parameters, no_decay)
    width = DTYPE_BYTES[engine_precision(job)[0]]
    if zero.stage == 0:
        return _stage_0(job, parameters, fixed, width)
    return _stage_3(job, zero, parameters, fixed, no_decay)


def _is_partitioned_pipeline(job: Job, zero: Zero) -> bool:
    """Whether BF16_Optimizer cuts up the states of a pipeline without ZeRO."""
    pipelined = job.parallelism.neox is not None and job.parallelism.neox.engine
    return zero.stage == 0 and pipelined and engine_precision(job)[0] == "bfloat16"


def _stage_0(job: Job, parameters: Sequence[Parameter], fixed: tuple[Tensors, ...], width: int) -> Sharding:
    """DeepSpeed without ZeRO: an unsharded float32 copy of a 16-bit model.

    DeepSpeed's FusedAdam gets flat ones (FP16_Optimizer): gradients are cast and flattened at the step, and states come
    with a dummy step at the start (runtime/fp16/fused_optimizer.py:125-135). Any other optimizer gets one for each
    parameter (FP16_UnfusedOptimizer, engine.py:2555): gradients are cast alone.
    """
    if width == MASTER_BYTES:
        return Sharding(weights_of(parameters, fixed), states_of(job, parameters), whole=True)
    trainable = [p for p in parameters if p.requires_grad]
    elements = sum(p.numel * p.multiplicity for p in trainable)
    weights = weights_of(parameters, fixed)
    if job.optimizer.name in FUSED:
        master = [Tensors("master weights", MASTER_BYTES * elements)]
        master += [Tensors("optimizer states", size) for size in _flat_states(job, elements)]
        step = (Tensors("temporaries", MASTER_BYTES * elements, 2),)
        return Sharding((*weights, *master), (), optimizer=step)
    wide = [Parameter(p.name, p.shape, "float32", trainable=True, multiplicity=p.multiplicity) for p in trainable]
    master = [Tensors.of("master weights", p, p.nbytes) for p in wide]
    update = optimizers.update_of(job)
    held = optimizers.held(update, wide) if update is not None else 0
    step = (Tensors("temporaries", MASTER_BYTES * elements + held),)
    return Sharding((*weights, *master, *states_of(job, wide)), (), optimizer=step)


def _partitioned(
    job: Job, zero: Zero, fixed: tuple[Tensors, ...], parameters: Sequence[Parameter], no_decay: Collection[int]
) -> Sharding:
    """Stages 1 and 2: whole weights, those that train in one padded buffer for each group of the optimizer's.

    And a partition of master weights, states and, in stage 2, gradients.
    """
    world = job.parallelism.data_parallel
    width = DTYPE_BYTES[engine_precision(job)[0]]
    trainable = [p for p in parameters if p.requires_grad]
    groups = [[p for p in trainable if (id(p) not in no_decay) is decays] for decays in (True, False)]
    groups = [group for group in groups if group]
    part = partition_of(groups, world, job.parallelism.rank)
    flat_weights = tuple(Tensors("weights", width * size * world) for size in part.sizes)
    weights = (*weights_of([p for p in parameters if not p.requires_grad], fixed), *flat_weights)
    accumulates = zero.gradient_accumulation_dtype == "float32" and width < MASTER_BYTES
    offloaded = zero.offload_optimizer != "none"
    if zero.stage == 1 and accumulates and not offloaded:
        return _bf16_optimizer(job, weights, part.sizes, world, MASTER_BYTES)
    if zero.stage == 0:  # of a pipeline (engine.py, _do_optimizer_sanity_check)
        return _bf16_optimizer(job, weights, part.sizes, world, MASTER_BYTES if accumulates else width)
    pipelined = job.parallelism.neox is not None and job.parallelism.neox.engine
    # the pipeline engine reduces behind the last backward (runtime/pipe/engine.py, _exec_reduce_grads)
    during = zero.stage == 2 or (bool(zero.overlap_comm) and not pipelined)
    pieces = tuple(piece for group in part.pieces for piece in group)
    master = [Tensors("master weights", MASTER_BYTES * size) for size in part.sizes]
    states = [Tensors("optimizer states", size) for part_size in part.sizes for size in _flat_states(job, part_size)]
    held = max((_flat_temporaries(job, size) for size in part.sizes), default=0)
    largest = max(part.sizes, default=0)
    own = MASTER_BYTES * sum(part.sizes) if accumulates else width * part.owned
    flat = width * largest if width < MASTER_BYTES or len(pieces) > 1 else 0
    moments = (NORM_BYTES * part.largest_slice, flat + MASTER_BYTES * largest, MASTER_BYTES * largest + held)
    step: tuple[Tensors, ...] = (Tensors("temporaries", max(moments)),)
    host = 0
    reduced = _reduced(job, zero, width)
    persistent = [*weights, *master]
    if offloaded:
        total = sum(part.sizes)
        host = sum(tensors.nbytes for tensors in (*master, *states)) + (MASTER_BYTES + width) * total
        host += _host_states(job, total)
        # one gradient's staging on either side, and where micro batches accumulate, those of its partitions whole
        staging = width * max((p.numel for p in trainable), default=0)
        host += staging + (width * part.owned if job.batch.gradient_accumulation_steps > 1 else 0)
        buffer = Tensors(COMMUNICATION, staging)
        persistent, states, step, own = [*weights, buffer], [], (), 0
    buckets = Buckets(
        tuple(parameters),
        pieces,
        zero.reduce_bucket_size,
        width,
        zero.reduce_bucket_size * width,
        2 if zero.overlap_comm and not pipelined else 1,
        own,
        during,
        tuple(tuple(group) for group in groups),
        min(2, job.batch.gradient_accumulation_steps),
        copies=flattened if reduced == width else Widened(width, reduced, world).flattened,
        measures=offloaded,
        pipelined=pipelined,
        late=pipelined and not job.model.config.get("last"),
    )
    return Sharding(tuple(persistent), tuple(states), optimizer=step, units=buckets, host=host)


def _bf16_optimizer(
    job: Job, weights: tuple[Tensors, ...], sizes: Sequence[int], world: int, accumulated: int
) -> Sharding:
    """Every rank has all gradients, whole, in `accumulated` bytes each (runtime/bf16_optimizer.py:154-235)."""
    gradients = [Tensors("gradients", accumulated * size * world) for size in sizes]
    master = [Tensors("master weights", MASTER_BYTES * size) for size in sizes]
    states = [Tensors("optimizer states", size) for part in sizes for size in _flat_states(job, part)]
    held = max((_flat_temporaries(job, part) for part in sizes), default=0)
    held += MASTER_BYTES * sum(sizes) if accumulated < MASTER_BYTES else 0
    step = (Tensors("temporaries", held),)
    clears = job.parallelism.neox is not None
    return Sharding((*weights, *gradients, *master), tuple(states), optimizer=step, clears=clears)


def _stage_3(
    job: Job, zero: Zero, parameters: Sequence[Parameter], fixed: tuple[Tensors, ...], no_decay: Collection[int]
) -> Sharding:
    """Stage 3: parts of everything; what is whole while a module runs comes from the coordinator."""
    world = max(1, job.parallelism.world_size)
    if zero.mics_shard_size is not None:  # runtime/zero/mics.py, of deepspeed until 0.19.6
        world = min(world, zero.mics_shard_size)
    width = DTYPE_BYTES[engine_precision(job)[0]]
    trainable = [p for p in parameters if p.requires_grad]
    groups = [[p for p in trainable if (id(p) not in no_decay) is decays] for decays in (True, False)]
    sub_groups = [size for group in groups for size in _sub_groups(group, world, zero.sub_group_size)]
    part = sum(sub_groups)
    largest = max(sub_groups, default=0)
    slices = max((-(-p.numel // world) for p in trainable), default=0)
    small = [p for p in parameters if p.numel <= zero.parameter_persistence_threshold]
    shard = [tensors for p in parameters for tensors in _part(p, zero, world, width)]
    states = [Tensors("optimizer states", size) for elements in sub_groups for size in _flat_states(job, elements)]
    # of a float32 model a copy, too: a device is compared with its name, which it never equals (stage3.py:1163)
    master = [Tensors("master weights", MASTER_BYTES * size) for size in sub_groups]
    gradients = Tensors("gradients", width * part)
    moments = (
        NORM_BYTES * slices,
        (width + MASTER_BYTES if width < MASTER_BYTES else width) * largest,
        MASTER_BYTES * largest + max((_flat_temporaries(job, size) for size in sub_groups), default=0),
    )
    step: tuple[Tensors, ...] = (Tensors("temporaries", max(moments)),)
    reduced = _reduced(job, zero, width)
    copies = scattered if reduced == width else Widened(width, reduced, world).scattered
    bucket = Tensors(COMMUNICATION, zero.reduce_bucket_size * reduced)
    persistent = [*fixed, bucket, Tensors("gathered parameters", width * sum(p.numel * p.multiplicity for p in small))]
    host = 0
    if zero.offload_parameters != "none":
        host += unrounded(shard, "weights")
    else:
        persistent += shard
    if zero.offload_optimizer != "none":
        # master weights, float32 gradients, states, and gradients as they come (stage3.py, offload_optimizer)
        host += unrounded((*master, *states), "master weights", "optimizer states") + (MASTER_BYTES + width) * part
        host += _host_states(job, part)
        states, step = [], ()
    else:
        persistent += [*master, gradients]
    recomputes, leaves = job.checkpointing.mode != "none", job.model.model_type in LEAVES
    wire = wire_of(parameters, zero, world, width, half=engine_precision(job)[0] == "float16")
    gathered = gathered_bytes(parameters, zero, wire, recomputes=recomputes, leaves=leaves)
    machines = job.parallelism.nodes
    quantized = zero.quantized_gradients and machines > 1 and zero.mics_shard_size is None
    buckets = Buckets(
        tuple(parameters),
        tuple(Piece(p) for p in in_order(parameters) if p.requires_grad),
        zero.reduce_bucket_size,
        width if quantized else reduced,
        buffer=0,
        buffers=0,
        own=0,
        during=True,
        groups=(),
        backwards=1,
        copies=QuantizedReduction(world, machines, width).copies if quantized else copies,
        gathered=gathered.whole,
        beside=gathered.beside,
        second=gathered.second,
    )
    return Sharding(tuple(persistent), tuple(states), optimizer=step, units=buckets, host=host)


def _reduced(job: Job, zero: Zero, width: int) -> int:
    """Bytes of an element of a gradient while ranks add it up: among ranks that share sequences of float32.

    deepspeed 0.19.8 runtime/engine.py:2182 (seq_parallel_communication_data_type); runtime/zero/stage_1_and_2.py:2373
    says so whatever the configuration does.
    """
    sequence = job.parallelism.sequence
    if sequence is None or sequence.form != ULYSSES:
        return width
    dtype = "float32" if zero.stage < 3 else zero.sequence_reduce_dtype
    return DTYPE_BYTES[dtype]


def _part(parameter: Parameter, zero: Zero, world: int, width: int) -> Iterator[Tensors]:
    """One rank's part of a parameter, packed ones in the bytes in which they are stored; and secondary partitions.

    A frozen one is never updated, so that its secondary partition stays.
    """
    share = -(-parameter.numel // world)
    plain = parameter.stored_tensors == (parameter.nbytes,)
    narrow = zero.quantized_frozen_weights and not parameter.requires_grad
    sizes = [share]
    if zero.hpz_partition_size > 1 and not parameter.requires_grad:
        sizes.append(aligned(parameter.numel, world) // min(world, zero.hpz_partition_size))
    for elements in sizes if plain else ():
        yield Tensors.of("weights", parameter, stored_bytes(elements) if narrow else elements * width)
    if not plain:
        yield Tensors.of("weights", parameter, -(-parameter.stored_bytes // world))


def _sub_groups(parameters: Sequence[Parameter], world: int, capacity: int) -> list[int]:
    """Elements of the parts that are stepped one after the other: full with the parameter that reaches `capacity`."""
    found: list[int] = []
    fill = size = 0
    for parameter in in_order(parameters):
        part = -(-parameter.numel // world)
        fill, size = fill + part, size + part
        if fill >= capacity:
            found.append(size)
            fill = size = 0
    return [*found, size] if size else found


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
