"""Host memory of one machine: what its processes hold together while they load, run and save, and what lies on NVMe.

Loading: weights that stay in their checkpoint's dtype are the mapped file itself, which all processes of a machine
share and the kernel may drop; converted or fresh ones are memory of each process (measured: transformers 5.23 with
safetensors 0.8 on a checkpoint of 509 MiB adds 10 MiB in its own dtype, 1029 MiB in float32). Running: what ZeRO, FSDP
and optimizers keep on the host. Python, libraries, data and the workers of data loaders are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from vramlint.estimate import Amount, HostPhase, Node
from vramlint.job import DTYPE_BYTES, Job, Zero
from vramlint.memory import optimizers
from vramlint.memory.rank import engine_precision
from vramlint.memory.saving import stored_width
from vramlint.memory.tensor import Parameter

STAGE3 = 3
WIDE = 4
"""Bytes of a float32 element: master weights, and gradients that DeepSpeedCPUAdam takes."""
STATES_ON_DISK = 4
"""float32 tensors of a swapped sub-group: master weights, gradients and Adam's two states (deepspeed 0.19.8
runtime/swap_tensor/optimizer_utils.py)."""
SHARD_BYTES: tuple[tuple[tuple[int, ...], int], ...] = (((5, 0), 50 * 10**9), ((0, 0), 5 * 10**9))
"""Release of transformers from which on, and bytes of a file of weights: all its tensors are on the host while it is
written (transformers modeling_utils.py, save_pretrained, max_shard_size; safetensors 0.8 torch.py, save_file)."""


class Held(Struct, frozen=True):
    """Tensors of one process in host memory."""

    name: str
    nbytes: int
    count: int = 1
    pinned: bool = False
    """Page-locked by torch, whose allocator rounds each up to a power of two (torch 2.13
    ATen/core/CachingHostAllocator.h)."""

    parts: int = 1
    """Processes that have one of them each: its average is counted."""

    @property
    def plain(self) -> int:
        """Bytes of their elements."""
        return -(-self.count * self.nbytes // self.parts)

    @property
    def total(self) -> int:
        """Bytes that they take."""
        return -(-self.count * _power(self.nbytes) // self.parts) if self.pinned else self.plain


def node_of(job: Job, parameters: Sequence[Parameter]) -> Node | None:
    """One machine of a training run; None of inference."""
    if job.objective.kind != "training":
        return None
    processes = min(job.parallelism.processes, job.parallelism.ranks_per_node)
    held = list(_offloaded(job, parameters))
    loaded = _loaded(job, parameters, processes)
    phases = (
        HostPhase("loading", (Amount("weights, copied", loaded.bytes),) if loaded.bytes else ()),
        HostPhase("running", tuple(_merged(held, processes))),
        HostPhase("saving", (*_merged(held, processes), *_saved(job, parameters, processes))),
    )
    plain = processes * sum(item.plain for item in held if item.pinned)
    pinned = processes * sum(item.total for item in held if item.pinned)
    return Node(
        processes=processes,
        phases=phases,
        copies=loaded.copies,
        pinned=pinned,
        rounding=pinned - plain,
        disk=processes * _on_disk(job, parameters),
    )


class _Loaded(Struct, frozen=True):
    bytes: int
    copies: int


def _loaded(job: Job, parameters: Sequence[Parameter], processes: int) -> _Loaded:
    """Weights that the processes of a machine have to themselves before these move to the devices.

    A quantized base goes to its device tensor by tensor. ZeRO 3 fills its shares from the mapped file of one rank
    (transformers 5.23 modeling_utils.py, _load_pretrained_model), FSDP with its efficient loading from that of one rank
    of each machine.
    """
    loading, zero = job.loading, job.parallelism.zero
    if loading is None or loading.mapped is not False or job.quantization is not None:
        return _Loaded(0, 0)
    if job.parallelism.strategy == "device_map" or (zero is not None and zero.stage == 3):
        return _Loaded(0, 0)
    base = [p for p in parameters if job.adapter is None or not p.requires_grad]
    size = DTYPE_BYTES[loading.dtype] * _elements(base)
    copies = 1 if loading.by_one else processes
    return _Loaded(copies * size, copies)


def _offloaded(job: Job, parameters: Sequence[Parameter]) -> Iterator[Held]:
    parallelism = job.parallelism
    if parallelism.strategy == "deepspeed" and parallelism.zero is not None and parallelism.zero.stage:
        yield from _of_zero(job, parallelism.zero, parameters)
    elif parallelism.strategy == "fsdp" and parallelism.fsdp_offload:
        yield from _of_fsdp(job, parameters)
    else:
        update = optimizers.update_of(job)
        trained = [p for p in parameters if p.requires_grad]
        size = sum(update.hosted(p) * p.multiplicity for p in trained) if update is not None else 0
        yield Held("optimizer states", size)


def _of_zero(job: Job, zero: Zero, parameters: Sequence[Parameter]) -> Iterator[Held]:
    """Partitions of ZeRO on the host, of stage 3 sub-group by sub-group.

    deepspeed 0.19.8 runtime/zero/stage_1_and_2.py:560-575,650-660,938-942,1820-1826; stage3.py:790-800,895-910,
    1325-1342; runtime/swap_tensor/partitioned_param_swapper.py:104-131, optimizer_utils.py:186-192.
    """
    width = DTYPE_BYTES[engine_precision(job)[0]]
    world = max(1, job.parallelism.world_size)
    trained = [p for p in parameters if p.requires_grad]
    part = -(-_elements(trained) // world)
    group = min(part, zero.sub_group_size) if zero.stage == 3 else part
    groups = ((group, part // group), (part % group, 1)) if group else ()
    pinned = zero.optimizer_pinned
    states = _states(job, part)
    if zero.offload_optimizer == "cpu":
        for size, count in groups:
            yield Held("master weights", WIDE * size, count, pinned=pinned and zero.stage < 3)
            yield Held("gradients", WIDE * size, count, pinned)
        yield Held("optimizer states", states)
        name = "gradient partitions" if zero.stage == 3 else "16-bit staging"
        yield Held(name, width * part, 1, pinned)
        if zero.stage < 3:
            yield Held("largest gradient", width * max((p.numel for p in trained), default=0), 1, pinned)
            if job.batch.gradient_accumulation_steps > 1:
                for p in trained:
                    yield Held("accumulated gradients", width * p.numel, p.multiplicity, pinned, world)
    elif zero.offload_optimizer == "nvme":
        yield Held("swap buffers", WIDE * group, zero.optimizer_swap_buffers)
        yield Held("gradients", WIDE * group)
        yield Held("gradient partitions", width * part, 1, pinned)
    if zero.stage == 3 and zero.offload_parameters != "none":
        share = -(-_elements(parameters) // world)
        swaps = zero.offload_parameters == "nvme"
        yield Held("weights", width * (min(share, zero.parameters_in_ram) if swaps else share), 1, pinned=True)
        yield Held("swap buffers", width * zero.swap_buffer_size, zero.swap_buffers if swaps else 0)


def _of_fsdp(job: Job, parameters: Sequence[Parameter]) -> Iterator[Held]:
    """Shares and their gradients are page-locked: each unit's flat parameter, of version 2 each parameter's rows.

    torch 2.13 fsdp/_flat_param.py, init_flat_param_attributes and _fully_shard/_fsdp_param.py, pin_memory.
    """
    ranks = job.parallelism.sharing
    mixed = job.precision.autocast is not None
    by_unit = job.parallelism.fsdp_version == 1
    update = optimizers.update_of(job)
    sizes: dict[object, tuple[int, int, int]] = {}
    for p in parameters:
        share = -(-p.numel // ranks)
        width = WIDE if mixed and p.requires_grad else DTYPE_BYTES[p.dtype]
        unit = p.layer if by_unit else id(p)
        weights, gradients, _ = sizes.get(unit, (0, 0, 0))
        trained = share * width if p.requires_grad else 0
        sizes[unit] = (weights + share * width, gradients + trained, p.multiplicity)
        if p.requires_grad and update is not None:
            local = Parameter(p.name, (share,), "float32" if width == WIDE else p.dtype, trainable=True, multiplicity=1)
            yield Held("optimizer states", sum(update.states(local)) + update.hosted(local), p.multiplicity)
    for weights, gradients, times in sizes.values():
        yield Held("weights", weights, times, pinned=True)
        yield Held("gradients", gradients, times, pinned=True)


def _on_disk(job: Job, parameters: Sequence[Parameter]) -> int:
    """Bytes that one process swaps out to NVMe."""
    zero = job.parallelism.zero
    if zero is None or zero.stage != 3:
        return 0
    world = max(1, job.parallelism.world_size)
    size = 0
    if zero.offload_optimizer == "nvme":
        size += STATES_ON_DISK * WIDE * -(-_elements([p for p in parameters if p.requires_grad]) // world)
    if zero.offload_parameters == "nvme":
        size += DTYPE_BYTES[engine_precision(job)[0]] * -(-_elements(parameters) // world)
    return size


def _saved(job: Job, parameters: Sequence[Parameter], processes: int) -> Iterator[Amount]:
    """What the processes have on the host besides while they save: gathered or cloned weights, a file's tensors.

    The Trainer asks every rank for the state dict: that of ZeRO 3 and of FSDP, if it is a full one, comes together in
    the first, that of ZeRO's lower stages is cloned to the host by each (transformers 5.23 trainer.py, save_model;
    accelerate 1.15 accelerator.py, get_state_dict).
    """
    parallelism, zero = job.parallelism, job.parallelism.zero
    saved = [p for p in parameters if job.adapter is None or p.requires_grad]
    size = sum(_width(job, p) * p.numel * p.multiplicity for p in saved)
    most = next(bound for since, bound in SHARD_BYTES if job.libraries.transformers >= since)
    file = Amount("weights of a file", min(size, most))
    if parallelism.strategy == "fsdp":
        if parallelism.fsdp_gathers_on_save:
            yield Amount("gathered weights", sum(_width(job, p) * p.numel * p.multiplicity for p in parameters))
            yield file
    elif zero is not None and zero.stage == STAGE3:
        if zero.gathers_on_save:
            yield Amount("gathered weights", size)
    else:
        if zero is not None and parallelism.strategy == "deepspeed" and job.objective.loop == "trainer":
            cloned = sum(_width(job, p) * p.numel * p.multiplicity for p in parameters)
            yield Amount("cloned weights", processes * cloned)
        yield file


def _width(job: Job, p: Parameter) -> int:
    """Bytes of an element of a saved weight."""
    if job.parallelism.strategy == "fsdp":
        return stored_width(job, p)
    return DTYPE_BYTES[engine_precision(job)[0]] if p.requires_grad else DTYPE_BYTES[p.dtype]


def _merged(held: Sequence[Held], processes: int) -> Iterator[Amount]:
    totals: dict[str, int] = {}
    for item in held:
        totals[item.name] = totals.get(item.name, 0) + processes * item.total
    return (Amount(name, size) for name, size in totals.items() if size)


def _states(job: Job, elements: int) -> int:
    """Bytes of the optimizer's states over a flat float32 partition, wherever the optimizer by itself has them."""
    update = optimizers.update_of(job)
    if update is None or not elements:
        return 0
    flat = Parameter("flat partition", (elements,), "float32", trainable=True, multiplicity=1)
    return sum(update.states(flat)) + update.hosted(flat)


def _elements(parameters: Sequence[Parameter]) -> int:
    return sum(p.numel * p.multiplicity for p in parameters)


def _power(size: int) -> int:
    return 1 << (size - 1).bit_length() if size else 0
