"""What can be said of a run whose step is not simulated: the model states alone are a lower bound."""

from __future__ import annotations

from vramlint.estimate import Amount, Estimate, PhasePeak
from vramlint.job import DTYPE_BYTES, Job
from vramlint.memory import optimizers
from vramlint.memory.device import outside
from vramlint.memory.holdings import Tensors
from vramlint.memory.host import node_of
from vramlint.memory.rank import Sharding
from vramlint.memory.sharding import sharding_of
from vramlint.memory.tensor import Parameter
from vramlint.memory.zero_buckets import Buckets

QUANTIZED_BYTES = {"nf4": 0.5, "fp4": 0.5, "int8": 1.0}
"""Bytes per element of the packed weights alone; scales and unquantized layers come on top."""


def bounded(job: Job, why: str) -> Estimate:
    """A lower bound from the parameter count: weights, and gradients and states where all of them train.

    Without a parameter count the bound is zero; the note says so.
    """
    total = job.model.parameter_count or 0
    count = -(-total // job.parallelism.model_shards)  # as if they were shared evenly, which is the least
    training = job.objective.kind == "training" and job.adapter is None and not job.frozen_parameters
    width = DTYPE_BYTES[job.precision.weights]
    weights = Parameter("all weights", (count,), job.precision.weights, trainable=training, multiplicity=1)
    weights.layer = (0, 0)  # in its layers, which a sharded model gathers one by one, there is nearly all of a model
    if job.quantization is not None:
        weights.stored_tensors = (int(count * QUANTIZED_BYTES.get(job.quantization.kind, job.quantization.bits / 8)),)
    sharding = sharding_of(job, [weights] if count else [], ())
    update = optimizers.update_of(job)
    counted = update is not None and update.dense
    amounts = [
        _of_states(Amount(tensors.component, tensors.nbytes * tensors.count), job)
        for tensors in (*sharding.persistent, *sharding.states)
        if counted or tensors.component != "optimizer states"
    ]
    if training and not (sharding.consumes_gradients or sharding.hooked):
        amounts.append(Amount("gradients", _gradients(sharding, count * width, job.parallelism.world_size)))
    amounts += [_amount(tensors) for tensors in sharding.gradients]
    if job.objective.reference_model:
        amounts.append(Amount("reference model", -(-count * width // _shards_of_reference(job))))
    merged: dict[str, int] = {}
    for amount in amounts:
        merged[amount.name] = merged.get(amount.name, 0) + amount.bytes
    allocated = sum(merged.values())
    states = merged.get("optimizer states", 0) + merged.get("master weights", 0)
    notes = [f"{why}: the figure is a lower bound from the model states, without activations"]
    if not count:
        notes.append("the number of parameters is unknown, so even the bound is empty")
    if training and not counted:
        notes.append(f"the states of the optimizer {job.optimizer.name} are not counted")
    beside = outside(job)
    return Estimate(
        method="bounded",
        allocated=allocated,
        reserved=allocated,
        outside=sum(part.bytes for part in beside),
        outside_parts=beside,
        peak_phase="states",
        phases=(PhasePeak("states", allocated, allocated),),
        components=tuple(Amount(name, size) for name, size in merged.items() if size),
        parameters=merged.get("weights", 0),
        trainable_parameters=total if training else 0,
        total_parameters=total,
        gradients=merged.get("gradients", 0),
        optimizer_states=states,
        host=sharding.host,
        node=node_of(job, [weights] if count else []),
        notes=tuple(notes),
    )


def _of_states(amount: Amount, job: Job) -> Amount:
    """Where GPUs share the optimizer's states alone, the part of one."""
    if amount.name not in ("optimizer states", "master weights"):
        return amount
    return Amount(amount.name, -(-amount.bytes // job.parallelism.optimizer_shards))


def _gradients(sharding: Sharding, whole: int, world: int) -> int:
    """Bytes of the gradients on one GPU.

    ZeRO leaves a partition of them in stage 2, none where they go to the host.
    FSDP leaves its share of them, all of them where it waits for further micro batches with reducing them, and none
    where shares are on the host.
    """
    units = sharding.units
    if isinstance(units, Buckets) and units.during:
        return -(-whole // world) if units.own else 0
    if units is None or isinstance(units, Buckets) or units.synchronises_every > 1:
        return whole
    return 0 if units.offloads else -(-whole // units.world)


def _shards_of_reference(job: Job) -> int:
    """How many GPUs share a reference model: all of them under ZeRO stage 3 and FSDP, else each holds its own.

    trl 1.16.0 trainer/dpo_trainer.py prepares it as it does the model; lower stages replicate it.
    """
    zero = job.parallelism.zero
    shared = zero.stage == 3 if zero else job.parallelism.strategy == "fsdp"
    return job.parallelism.sharing if shared else 1


def _amount(tensors: Tensors) -> Amount:
    return Amount(tensors.component, tensors.nbytes * tensors.count)
