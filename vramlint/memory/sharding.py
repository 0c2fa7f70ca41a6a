"""What data parallelism changes in one rank's step: DDP, DeepSpeed ZeRO 0-3, FSDP.

Persistent model states are divided, buckets and gathered layers come on top. Figures are DeepSpeed 0.19.8's
(runtime/zero/stage_1_and_2.py, stage3.py, runtime/fp16/fused_optimizer.py), accelerate 1.15's and torch 2.13's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vramlint.job import DTYPE_BYTES, Job, Zero
from vramlint.memory import megatron_buffers, optimizers
from vramlint.memory.fully_sharded import Unit, Units
from vramlint.memory.holdings import Tensors, unrounded
from vramlint.memory.tensor import LayerId, Parameter

MASTER_BYTES = 4
"""ZeRO and FSDP with mixed precision keep float32 master weights."""
GATHERED_LAYERS = 2
"""Units in flight: the one that runs and the one that is prefetched (FSDP's all-gather limiter; ZeRO-3's prefetch)."""

BROADCAST_BUCKET = 250 << 20
"""torch 2.13 torch/distributed/fsdp/_init_utils.py, PARAM_BROADCAST_BUCKET_SIZE; two buckets are under way at once."""


@dataclass(frozen=True, slots=True)
class Sharding:
    """One rank's holdings and the buffers of its communication."""

    persistent: tuple[Tensors, ...]
    """Alive during the whole step, besides the optimizer's states."""
    states: tuple[Tensors, ...]
    """What the first optimizer step adds to it."""
    whole: bool = False
    """Whether this rank's optimizer steps the model's own parameters, unsharded."""
    backward: tuple[Tensors, ...] = ()
    """Alive from the start of a backward to its end."""
    gradients: tuple[Tensors, ...] = ()
    """Reduced gradients, alive from the first backward to the end of the optimizer step."""
    optimizer: tuple[Tensors, ...] = ()
    """Alive inside the optimizer step."""
    hooked: bool = False
    """The optimizer updates the parameters in backward."""
    consumes_gradients: bool = False
    """A parameter's gradient is reduced and freed as soon as it is complete."""
    gathered: dict[LayerId | None, int] = field(default_factory=dict)
    """Bytes of full parameters that exist only while a layer kind (None: everything outside layers) runs."""
    units: Units | None = None
    """FSDP's units; None elsewhere."""
    wrapped: tuple[tuple[int, ...], ...] = ()
    """Bytes of tensors that come and go before the first step, group by group."""
    host: int = 0
    """Bytes of offloaded states in host memory."""


def sharding_of(job: Job, parameters: Sequence[Parameter], buffers: Sequence[tuple[int, int]]) -> Sharding:
    """How `job` distributes a model with these parameters and (bytes, count) buffers."""
    fixed = tuple(Tensors("buffers", size, count) for size, count in buffers)
    parallelism = job.parallelism
    if job.objective.kind == "inference":
        return Sharding(_weights(parameters, fixed), ())
    if parallelism.strategy == "deepspeed" and parallelism.zero is not None:
        return _zero(job, parallelism.zero, parameters, fixed)
    if parallelism.strategy == "fsdp" and parallelism.fsdp_sharding != "none" and parallelism.world_size > 1:
        return _fsdp(job, parameters, fixed)
    if parallelism.megatron is not None:
        held, states = megatron_buffers.persistent(job, parameters)
        return Sharding((*_weights(parameters, fixed), *held), states, consumes_gradients=True)
    persistent, states = _weights(parameters, fixed), _states(job, parameters)
    update = optimizers.update_of(job)
    host = sum(update.hosted(p) * p.multiplicity for p in parameters if p.requires_grad) if update is not None else 0
    if update is not None and not update.lazy:
        persistent, states = (*persistent, *states), ()
    if parallelism.strategy in {"ddp", "fsdp"} and parallelism.world_size > 1:
        buckets = tuple(Tensors.of("DDP buckets", p, p.nbytes) for p in parameters if p.requires_grad)
        return Sharding((*persistent, *buckets), states, whole=True, host=host)
    hooked = update is not None and update.in_backward
    return Sharding(persistent, states, whole=True, hooked=hooked, host=host)


def engine_precision(job: Job) -> tuple[str, str | None]:
    """(weights, autocast) as the step runs them.

    DeepSpeed converts the module to 16 bit and does not autocast; FSDP gathers layers in 16 bit.
    """
    precision = job.precision
    if precision.autocast is not None and runs_in_16_bit(job):
        return precision.autocast, None if job.parallelism.strategy == "deepspeed" else precision.autocast
    return precision.weights, precision.autocast


def runs_in_16_bit(job: Job) -> bool:
    """Whether the engine computes with 16-bit parameters, whatever dtype they are stored in."""
    parallelism = job.parallelism
    sharded = parallelism.strategy == "fsdp" and parallelism.fsdp_sharding != "none" and parallelism.world_size > 1
    return job.precision.autocast is not None and (sharded or parallelism.strategy == "deepspeed")


def _weights(parameters: Sequence[Parameter], fixed: tuple[Tensors, ...]) -> tuple[Tensors, ...]:
    """Weights, buffers and quantization constants in the order in which a model that moves to the device has them."""
    weights = [Tensors.of("weights", p, p.stored_tensors[0]) for p in parameters]
    constants = [Tensors.of("quantization constants", p, size) for p in parameters for size in p.stored_tensors[1:]]
    return (*weights, *fixed, *constants)


def _states(job: Job, parameters: Sequence[Parameter]) -> tuple[Tensors, ...]:
    update = optimizers.update_of(job)
    if update is None:
        return ()
    trainable = [p for p in parameters if p.requires_grad and p.stepped]
    states = [Tensors.of("optimizer states", p, size) for p in trainable for size in update.states(p)]
    return (*states, *(Tensors("optimizer states", size) for size in update.shared(trainable)))


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


def _zero(job: Job, zero: Zero, parameters: Sequence[Parameter], fixed: tuple[Tensors, ...]) -> Sharding:
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
    if zero.stage == 3:
        return _stage_3(job, zero, parameters, (*fixed, *master), states, step, host)
    overlap = 2 if zero.overlap_comm else 1
    bucket = Tensors("communication buffers", zero.reduce_bucket_size * width, overlap)
    copy = Tensors("communication buffers", min(zero.reduce_bucket_size, _elements(trainable)) * width)
    partition = (Tensors("gradients", width * part),) if zero.stage == 2 and not offloaded else ()
    return Sharding(
        (*_weights(parameters, fixed), *master),
        states,
        backward=(bucket, copy),
        gradients=partition,
        optimizer=step,
        consumes_gradients=zero.stage == 2 or offloaded,
        host=host,
    )


def _stage_0(
    job: Job, parameters: Sequence[Parameter], fixed: tuple[Tensors, ...], width: int, elements: int
) -> Sharding:
    """DeepSpeed without ZeRO: FP16_Optimizer keeps an unsharded float32 copy and flattens gradients at the step.

    Its states come with a dummy step at the start (runtime/fp16/fused_optimizer.py:125-135).
    """
    if width == MASTER_BYTES:
        return Sharding(_weights(parameters, fixed), _states(job, parameters), whole=True)
    master = [Tensors("master weights", MASTER_BYTES * elements)]
    master += [Tensors("optimizer states", size) for size in _flat_states(job, elements)]
    step = (Tensors("temporaries", MASTER_BYTES * elements, 2),)
    return Sharding((*_weights(parameters, fixed), *master), (), optimizer=step)


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


def _fsdp(job: Job, parameters: Sequence[Parameter], fixed: tuple[Tensors, ...]) -> Sharding:
    """FSDP: flat parameters in shares, float32 ones where layers are gathered in 16 bit.

    accelerate 1.0.1 accelerator.py:1537-1580 widens the trainable shares under mixed precision; a frozen share keeps
    its dtype. Quantization constants are no parameters: every rank has all of them, but of torchao's tensors, whose
    parts are all divided (torchao 0.18 nf4_tensor.py, nf4_split).
    """
    world = job.parallelism.world_size
    mixed = job.precision.autocast
    offloads = job.parallelism.fsdp_offload
    separate = job.adapter is not None and job.parallelism.fsdp_adapters_apart
    whole_tensors = job.quantization is not None and job.quantization.kind == "nf4-tensor"
    update = optimizers.update_of(job)
    weights: list[Tensors] = []
    states: list[Tensors] = []
    shares: list[Parameter] = []
    gathered: dict[LayerId | None, int] = {}
    converted: dict[LayerId | None, int] = {}
    trained: dict[LayerId | None, int] = {}
    for p in parameters:
        share = -(-p.numel // world)
        wide = p.requires_grad and mixed is not None
        stored = DTYPE_BYTES["float32" if wide else p.dtype] * share
        packed = p.stored_tensors[0]
        plain = packed == p.nbytes
        weights.append(Tensors.of("weights", p, stored if plain else -(-packed // world)))
        parts = world if whole_tensors else 1
        weights += [Tensors.of("quantization constants", p, -(-size // parts)) for size in p.stored_tensors[1:]]
        width = DTYPE_BYTES[mixed] if mixed and plain else None
        gathered[p.layer] = gathered.get(p.layer, 0) + (packed if width is None else width * p.numel)
        if offloads:
            converted[p.layer] = converted.get(p.layer, 0) + (stored if plain else -(-packed // world))
        elif width is not None and wide:
            converted[p.layer] = converted.get(p.layer, 0) + width * share
        if not p.requires_grad:
            continue
        trained[p.layer] = trained.get(p.layer, 0) + 1
        local = Parameter(p.name, (share,), "float32" if wide else p.dtype, trainable=True, multiplicity=p.multiplicity)
        local.stretch = p.stretch
        shares.append(local)
        if update is not None:
            states += [Tensors.of("optimizer states", p, size) for size in update.states(local)]
    units = Units(
        {name: Unit(size, trained.get(name, 0), converted.get(name, 0)) for name, size in gathered.items()},
        world,
        prefetches=job.checkpointing.mode != "reentrant",
        retains_inputs=separate and job.checkpointing.mode == "reentrant",
        separate=separate,
        synchronises_every=1 if job.parallelism.sync_each_batch else min(2, job.batch.gradient_accumulation_steps),
        widens=mixed is not None,
        offloads=offloads,
    )
    wrapped = _wrapped(parameters)
    if offloads:
        constants = [tensors for tensors in weights if tensors.component != "weights"]
        host = unrounded((*weights, *states), "weights", "optimizer states")
        return Sharding((*fixed, *constants), (), units=units, wrapped=wrapped, host=host)
    step = (Tensors("temporaries", optimizers.held(update, shares)),) if update is not None else ()
    return Sharding((*fixed, *weights), tuple(states), optimizer=step, units=units, wrapped=wrapped)


def _wrapped(parameters: Sequence[Parameter]) -> tuple[tuple[int, ...], ...]:
    """What FSDP's constructor holds of a unit: its parameters on the device, what is broadcast, and the flat parameter.

    The largest layer's and the root's; the wrapped layers before it leave what the next one takes.
    """
    units: dict[LayerId | None, list[int]] = {}
    for p in parameters:
        units.setdefault(p.layer, []).append(p.stored_tensors[0])
    root = units.pop(None, [])
    layer = max(units.values(), key=sum, default=[])
    return tuple((*tensors, *_buckets(tensors), sum(tensors)) for tensors in (layer, root) if tensors)


def _buckets(tensors: Sequence[int]) -> list[int]:
    """The two largest tensors that torch.distributed broadcasts of these: some in one, or a large one alone."""
    buckets = [0]
    for size in tensors:
        if buckets[-1] and buckets[-1] + size > BROADCAST_BUCKET:
            buckets.append(0)
        buckets[-1] += size
    return sorted(buckets)[-2:]
