"""Bringing the model to the device: what is there for a moment while it is loaded and prepared.

A model that is loaded as it is never holds more than itself. Casting, quantizing and widening do: one tensor at a time
is there in both forms (torch 2.13 nn/modules/module.py, _apply; transformers 5.23 core_model_loading.py; bitsandbytes
0.50 nn/modules.py, Params4bit._quantize; peft 0.21 utils/other.py, prepare_model_for_kbit_training).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vramlint.job import DTYPE_BYTES, Job
from vramlint.memory.holdings import Tensors, total
from vramlint.memory.quantization import PACKED_CHECKPOINTS, QUANTIZES_ROWS_FROM
from vramlint.memory.recorder import rounded
from vramlint.memory.sharding_whole import sharding_peak
from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.memory import by_layer

HALF = 2
ZERO_3 = 3
SORTED_FROM = (5, 0)
"""Since then weights are loaded in the order of their names, numbers in them by value (core_model_loading.py)."""


def loading_peak(job: Job, parameters: Sequence[Parameter], resident: Sequence[Tensors]) -> int:
    """Bytes at the highest point before the first step, given what is resident after it."""
    present = total(resident)
    if job.quantization is None:
        buffers = total([tensors for tensors in resident if tensors.component == "buffers"])
        return max(present, buffers + max(_cast(job, by_layer(parameters)), sharding_peak(job, parameters)))
    if job.quantization.kind in PACKED_CHECKPOINTS:
        return present
    order = [(times, members) for times, members in by_layer(parameters)]
    return max(present, _quantized(job, order, present), _widened(job, order, present))


def _cast(job: Job, order: Iterable[tuple[int, Sequence[Parameter]]]) -> int:
    """The whole model as it was loaded, and each parameter in turn in the dtype that the program casts it to.

    ZeRO 3 loads shares, of which nothing is whole, and a device map spreads the model over the GPUs of a process.
    """
    shared = job.parallelism
    spread = shared.strategy == "device_map" and shared.world_size > 1
    if spread or (shared.zero is not None and shared.zero.stage == ZERO_3):
        return 0
    if job.loading is None or job.loading.arrives is None:
        return 0
    before, after = DTYPE_BYTES[job.loading.arrives], DTYPE_BYTES[job.precision.weights]
    base = [(times, [p for p in members if job.adapter is None or not p.requires_grad]) for times, members in order]
    alive = highest = sum(times * sum(rounded(p.numel * before) for p in members) for times, members in base)
    for times, members in base:
        changes = [(rounded(p.numel * before), rounded(p.numel * after)) for p in members]
        change = sum(new - old for old, new in changes)
        alive += max(0, change * (times - 1))
        for old, new in changes:
            highest = max(highest, alive + new)
            alive += new - old
        alive += min(0, change * (times - 1))
    return highest


def _quantized(job: Job, order: Sequence[tuple[int, Sequence[Parameter]]], present: int) -> int:
    """Each quantized weight arrives in the dtype that it is loaded in. Others come as they are stored, or narrower.

    LLM.int8() halves whatever was loaded and, as long as it quantized columns too, made a second weight of 8 bits
    (bitsandbytes 0.44 nn/modules.py, Int8Params.cuda; functional.py, double_quant).
    """
    eight_bit = job.quantization is not None and job.quantization.kind == "int8"
    arriving = HALF if eight_bit else DTYPE_BYTES[job.precision.weights]
    width = arriving + (eight_bit and job.libraries.bitsandbytes < QUANTIZES_ROWS_FROM)
    alive = present - sum(_stored(p) * times for times, members in order for p in members)
    highest = alive
    for times, members in _sorted(order) if job.libraries.transformers >= SORTED_FROM else order:
        layer = sum(_stored(p) for p in members)
        alive += layer * (times - 1)
        for parameter in members:
            if parameter.stored_tensors != (parameter.nbytes,):
                both = rounded(parameter.numel * width) + _stored(parameter) + _scales(job, parameter)
                highest = max(highest, alive + both)
            alive += _stored(parameter)
    return highest


def _scales(job: Job, parameter: Parameter) -> int:
    """Scales of blocks and their distances from the mean in float32, of which double quantization makes 8 bits."""
    from vramlint.memory.ops.four_bit import NF4_BLOCK

    quantization = job.quantization
    doubly = quantization is not None and quantization.double_quantization and quantization.kind in {"nf4", "fp4"}
    return 2 * rounded(4 * -(-parameter.numel // NF4_BLOCK)) if doubly else 0


Order = Sequence[tuple[int, Sequence[Parameter]]]


def _sorted(order: Order) -> Order:
    """Stretches of layers, and what is in them, by name."""
    within = [(times, sorted(members, key=_by_name)) for times, members in order]
    return sorted(within, key=lambda stretch: _by_name(stretch[1][0]))


def _by_name(parameter: Parameter) -> list[tuple[int, int, str]]:
    parts = parameter.name.split(".")
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def _widened(job: Job, order: Sequence[tuple[int, Sequence[Parameter]]], present: int) -> int:
    """prepare_model_for_kbit_training widens what is left in 16 bits to float32, tensor by tensor."""
    quantization = job.quantization
    if quantization is None or not quantization.prepared_for_kbit or DTYPE_BYTES[job.precision.weights] != HALF:
        return 0
    wide = [
        (times, p)
        for times, members in order
        for p in members
        if not p.requires_grad and p.dtype == "float32" and p.stored_tensors == (p.nbytes,)
    ]
    alive = present - sum(rounded(p.numel * HALF) * times for times, p in wide)
    highest = alive
    for times, parameter in wide:
        narrow = rounded(parameter.numel * HALF)
        alive += narrow * (times - 1)
        highest = max(highest, alive + rounded(parameter.nbytes))
        alive += narrow
    return highest


def _stored(parameter: Parameter) -> int:
    return sum(map(rounded, parameter.stored_tensors))
