"""What data parallelism changes in one rank's step: DDP, FSDP 1 and 2, and by `zero` DeepSpeed.

Persistent model states are divided, buckets and gathered layers come on top. Figures are accelerate 1.15's and torch
2.13's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from vramlint.job import DTYPE_BYTES, Job
from vramlint.memory import optimizers
from vramlint.memory.fully_shard_groups import groups_of, is_widened, share_of
from vramlint.memory.fully_sharded import Unit, Units
from vramlint.memory.holdings import Tensors, unrounded
from vramlint.memory.rank import Sharding, states_of, weights_of
from vramlint.memory.tensor import LayerId, Parameter
from vramlint.memory.zero_partition import in_order

BROADCAST_BUCKET = 250 << 20
"""torch 2.13 torch/distributed/fsdp/_init_utils.py, PARAM_BROADCAST_BUCKET_SIZE; two buckets are under way at once."""

LAYERS_CHECKPOINT_SINCE = (4, 53)


def sharding_of(
    job: Job,
    parameters: Sequence[Parameter],
    buffers: Sequence[tuple[int, int]],
    no_decay: Collection[int] = frozenset(),
) -> Sharding:
    """How `job` distributes a model with these parameters and (bytes, count) buffers.

    `no_decay` are the ids of the parameters that the optimizer has in a group of their own.
    """
    fixed = tuple(Tensors("buffers", size, count) for size, count in buffers)
    parallelism = job.parallelism
    if job.objective.kind == "inference":
        return Sharding(weights_of(parameters, fixed), ())
    if parallelism.strategy == "deepspeed" and parallelism.zero is not None:
        from vramlint.memory.zero import zero_sharding

        return zero_sharding(job, parallelism.zero, parameters, fixed, no_decay)
    if parallelism.strategy == "fsdp" and parallelism.world_size > 1:
        return _fsdp_2(job, parameters, fixed) if parallelism.fsdp_version == 2 else _fsdp(job, parameters, fixed)
    if parallelism.megatron is not None:
        from vramlint.memory import megatron_buffers

        held = megatron_buffers.held(job, parameters)
        whole = (*weights_of(parameters, fixed), *held.persistent)
        return Sharding(
            whole,
            held.states,
            backward=held.backward,
            optimizer=held.optimizer,
            consumes_gradients=True,
            host=held.host,
        )
    persistent, states = weights_of(parameters, fixed), states_of(job, parameters)
    update = optimizers.update_of(job)
    host = sum(update.hosted(p) * p.multiplicity for p in parameters if p.requires_grad) if update is not None else 0
    if update is not None and not update.lazy:
        persistent, states = (*persistent, *states), ()
    if parallelism.strategy == "ddp" and parallelism.world_size > 1:
        buckets = tuple(Tensors.of("DDP buckets", p, p.nbytes) for p in parameters if p.requires_grad)
        # gradients that are views of the buckets are copied there and gone
        views = parallelism.bucket_view
        return Sharding((*persistent, *buckets), states, whole=True, consumes_gradients=views, host=host)
    hooked = update is not None and update.in_backward
    # of a gradient that DTensor made whole, fused AdamW gets a copy of this rank's part (torch 2.13 _dispatch.py)
    parts = tuple(Tensors.of("temporaries", p, p.nbytes) for p in parameters if p.whole_gradient)
    return Sharding(persistent, states, whole=True, hooked=hooked, host=host, optimizer=parts)


def _fsdp(job: Job, parameters: Sequence[Parameter], fixed: tuple[Tensors, ...]) -> Sharding:
    """FSDP: flat parameters in shares, float32 ones where layers are gathered in 16 bit.

    accelerate 1.0.1 accelerator.py:1537-1580 widens the trainable shares under mixed precision; a frozen share keeps
    its dtype. Quantization constants are no parameters: every rank has all of them, but of torchao's tensors, whose
    parts are all divided (torchao 0.18 nf4_tensor.py, nf4_split).
    """
    parallelism = job.parallelism
    world = 1 if parallelism.fsdp_sharding == "none" else parallelism.sharing
    mixed = job.precision.autocast
    offloads = parallelism.fsdp_offload
    separate = job.adapter is not None and parallelism.fsdp_adapters_apart
    whole_tensors = job.quantization is not None and job.quantization.kind == "nf4-tensor"
    update = optimizers.update_of(job)
    slices = _slices(parameters, world, parallelism.rank or 0, wraps=parallelism.fsdp_wraps_layers, separate=separate)
    weights: list[Tensors] = []
    states: list[Tensors] = []
    shares: list[Parameter] = []
    gathered: dict[LayerId | None, int] = {}
    converted: dict[LayerId | None, int] = {}
    trained: dict[LayerId | None, int] = {}
    for p in parameters:
        share = -(-p.numel // world)
        own = slices.get(id(p), {share: p.multiplicity})
        unit, times = (p.layer, 1) if parallelism.fsdp_wraps_layers else (None, p.multiplicity)
        wide = p.requires_grad and mixed is not None
        itemsize = DTYPE_BYTES["float32" if wide else p.dtype]
        stored = itemsize * share
        packed = p.stored_tensors[0]
        plain = packed == p.nbytes
        if plain:
            weights += [Tensors("weights", itemsize * size, count, p.stretch) for size, count in own.items()]
        else:
            weights.append(Tensors.of("weights", p, -(-packed // world)))
        parts = world if whole_tensors else 1
        weights += [Tensors.of("quantization constants", p, -(-size // parts)) for size in p.stored_tensors[1:]]
        width = DTYPE_BYTES[mixed] if mixed and plain else None
        gathered[unit] = gathered.get(unit, 0) + (packed if width is None else width * p.numel) * times
        if offloads:
            converted[unit] = converted.get(unit, 0) + (stored if plain else -(-packed // world)) * times
        elif width is not None and wide and world > 1:
            converted[unit] = converted.get(unit, 0) + width * share * times
        if not p.requires_grad:
            continue
        trained[unit] = trained.get(unit, 0) + 1
        for size, count in own.items():
            if size:
                local = Parameter(p.name, (size,), "float32" if wide else p.dtype, trainable=True, multiplicity=count)
                local.stretch = p.stretch
                shares.append(local)
    if update is not None:
        states = [Tensors.of("optimizer states", local, size) for local in shares for size in update.states(local)]
    units = Units(
        {name: Unit(size, trained.get(name, 0), converted.get(name, 0)) for name, size in gathered.items()},
        world,
        prefetches=parallelism.fsdp_prefetches and not _runs_inside_checkpoints(job),
        retains_inputs=separate and _runs_inside_checkpoints(job),
        separate=separate,
        synchronises_every=1 if parallelism.sync_each_batch else min(3, job.batch.gradient_accumulation_steps),
        widens=mixed is not None,
        keeps=parallelism.fsdp_sharding == "grad-op" and job.adapter is None,
        wraps=parallelism.fsdp_wraps_layers,
        offloads=offloads,
        trained=tuple(p for p in parameters if p.requires_grad),
    )
    wrapped = _wrapped(parameters)
    if offloads:
        constants = [tensors for tensors in weights if tensors.component != "weights"]
        host = unrounded((*weights, *states), "weights", "optimizer states") + sum(
            p.nbytes * p.multiplicity for p in shares
        )
        return Sharding((*fixed, *constants), (), units=units, wrapped=wrapped, host=host)
    step = (Tensors("temporaries", optimizers.held(update, shares)),) if update is not None else ()
    return Sharding((*fixed, *weights), tuple(states), optimizer=step, units=units, wrapped=wrapped)


def _runs_inside_checkpoints(job: Job) -> bool:
    """Whether a reentrant checkpoint runs the wrapped layer, whose first outputs then need no gradient.

    Since transformers 4.53 the layer itself runs its checkpoint (modeling_layers.py, GradientCheckpointingLayer), as
    what torch's checkpoint_wrapper makes of it does.
    """
    inside = job.checkpointing.within_units or job.libraries.transformers >= LAYERS_CHECKPOINT_SINCE
    return job.checkpointing.mode == "reentrant" and not inside


def _slices(
    parameters: Sequence[Parameter], world: int, rank: int, *, wraps: bool, separate: bool
) -> dict[int, Mapping[int, int]]:
    """Of each parameter, by its id, the elements in a rank's share of its unit's flat parameter: of how many layers.

    The shares of a unit are equal and cut its parameters one behind the other (torch 2.13
    torch/distributed/fsdp/_flat_param.py, _get_shard_metadata). Packed parameters are left out.
    """
    units: dict[LayerId | None, list[Parameter]] = {}
    for p in parameters:
        if p.stored_tensors == (p.nbytes,) and not (separate and p.requires_grad):
            units.setdefault(p.layer if wraps else None, []).append(p)
    found: dict[int, Mapping[int, int]] = {}
    for members in units.values():
        whole = members if wraps else list(in_order(members))
        share = -(-sum(p.numel for p in whole) // world)
        begin = 0
        cuts: dict[int, Counter[int]] = {}
        for p in whole:
            end = begin + p.numel
            size = max(0, min(end, (rank + 1) * share) - max(begin, rank * share))
            cuts.setdefault(id(p), Counter())[size] += p.multiplicity if wraps else 1
            begin = end
        found.update(cuts)
    return found


def _fsdp_2(job: Job, parameters: Sequence[Parameter], fixed: tuple[Tensors, ...]) -> Sharding:
    """FSDP 2: every parameter in rows, float32 ones where they train under mixed precision.

    Of a quantized one the packed weight is divided; its constants are, as under FSDP 1, torchao's alone.
    """
    ranks = job.parallelism.sharing
    parts = ranks if job.quantization is not None and job.quantization.kind == "nf4-tensor" else 1
    update = optimizers.update_of(job)
    weights: list[Tensors] = []
    states: list[Tensors] = []
    shares: list[Parameter] = []
    for p in parameters:
        if p.twin:
            continue
        share, dtype = share_of(p, ranks), "float32" if is_widened(job, p) else p.dtype
        packed = p.stored_tensors[0]
        plain = packed == p.nbytes
        weights.append(Tensors.of("weights", p, share * DTYPE_BYTES[dtype] if plain else -(-packed // ranks)))
        weights += [Tensors.of("quantization constants", p, -(-size // parts)) for size in p.stored_tensors[1:]]
        if p.requires_grad:
            local = Parameter(p.name, (share,), dtype, trainable=True, multiplicity=p.multiplicity)
            local.stretch = p.stretch
            shares.append(local)
            states += [Tensors.of("optimizer states", p, size) for size in update.states(local)] if update else []
    units = groups_of(job, parameters, ranks)
    if job.parallelism.fsdp_offload:
        host = unrounded((*weights, *states), "weights", "optimizer states") + sum(
            p.nbytes * p.multiplicity for p in shares
        )
        constants = [tensors for tensors in weights if tensors.component != "weights"]
        return Sharding((*fixed, *constants), (), units=units, host=host)
    step = (Tensors("temporaries", optimizers.held(update, shares)),) if update is not None else ()
    return Sharding((*fixed, *weights), tuple(states), optimizer=step, units=units)


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
