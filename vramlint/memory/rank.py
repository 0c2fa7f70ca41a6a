"""What one rank of a data-parallel run holds, and in which precision it computes."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, field

from vramlint.job import Job
from vramlint.memory import optimizers
from vramlint.memory.fully_shard import Groups
from vramlint.memory.fully_sharded import Units
from vramlint.memory.holdings import Tensors
from vramlint.memory.tensor import LayerId, Parameter
from vramlint.memory.zero_buckets import Buckets


class Sharding(Struct, frozen=True):
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
    clears: bool = False
    """Gradients in the weights' dtype last until the next backward begins: BF16_Optimizer adds them up in float32."""
    consumes_gradients: bool = False
    """A parameter's gradient is reduced and freed as soon as it is complete."""
    gathered: dict[LayerId | None, int] = field(default_factory=dict)
    """Bytes of full parameters that exist only while a layer kind (None: everything outside layers) runs."""
    units: Units | Groups | Buckets | None = None
    """FSDP's units, of version 2 groups; ZeRO's buckets; None elsewhere."""
    wrapped: tuple[tuple[int, ...], ...] = ()
    """Bytes of tensors that come and go before the first step, group by group."""
    host: int = 0
    """Bytes of offloaded states in host memory."""


def engine_precision(job: Job) -> tuple[str, str | None]:
    """(weights, autocast) as the step runs them.

    DeepSpeed converts the module to 16 bit and does not autocast; FSDP gathers layers in 16 bit, and accelerate 1.15
    leaves the forward of FSDP 2 without autocast (accelerator.py:1674, _prepare_fsdp2).
    """
    precision = job.precision
    if precision.autocast is not None and runs_in_16_bit(job):
        whole = job.parallelism.strategy == "deepspeed" or job.parallelism.fsdp_version == 2
        return precision.autocast, None if whole else precision.autocast
    return precision.weights, precision.autocast


def runs_in_16_bit(job: Job) -> bool:
    """Whether the engine computes with 16-bit parameters, whatever dtype they are stored in."""
    parallelism = job.parallelism
    sharded = parallelism.strategy == "fsdp" and parallelism.world_size > 1
    return job.precision.autocast is not None and (sharded or parallelism.strategy == "deepspeed")


def weights_of(parameters: Sequence[Parameter], fixed: tuple[Tensors, ...]) -> tuple[Tensors, ...]:
    """Weights, buffers and quantization constants in the order in which a model that moves to the device has them."""
    weights = [Tensors.of("weights", p, p.stored_tensors[0]) for p in parameters]
    constants = [Tensors.of("quantization constants", p, size) for p in parameters for size in p.stored_tensors[1:]]
    return (*weights, *fixed, *constants)


def states_of(job: Job, parameters: Sequence[Parameter]) -> tuple[Tensors, ...]:
    """The optimizer's states of a model that one rank steps whole."""
    update = optimizers.update_of(job)
    if update is None:
        return ()
    trainable = [p for p in parameters if p.requires_grad and p.stepped]
    states = [Tensors.of("optimizer states", p, size) for p in trainable for size in update.states(p)]
    return (*states, *(Tensors("optimizer states", size) for size in update.shared(trainable)))
