"""Bytes that a step moves beside what GPUs send one another: to host memory, and through a GPU's own for the update."""

from __future__ import annotations

from collections.abc import Iterator

from vramlint.estimate import Estimate, Traffic
from vramlint.job import DTYPE_BYTES, Job

HOST, MEMORY = "host", "memory"


def offloaded(job: Job, estimate: Estimate) -> Iterator[Traffic]:
    """What one GPU exchanges with host memory for an optimizer step, in the direction that carries more.

    An offloaded optimizer gets 16-bit gradients and gives back weights, each once for a step (ZeRO-Offload,
    https://arxiv.org/abs/2101.06840, section 3); offloaded parameters come for each gather, forward and backward.
    """
    spread, zero = job.parallelism, job.parallelism.zero
    width = DTYPE_BYTES[job.precision.autocast or job.precision.weights]
    ranks = max(1, spread.sharing if spread.strategy == "fsdp" else spread.world_size)
    trained = estimate.trainable_parameters * width // ranks
    held = estimate.total_parameters * width // ranks
    gathers = 2 * job.batch.gradient_accumulation_steps
    optimizer = zero is not None and zero.offload_optimizer != "none"
    parameters = zero is not None and zero.offload_parameters != "none"
    if optimizer or spread.fsdp_offload:
        yield Traffic("gradients, to the host", HOST, trained, "16-bit gradients of a share")
    if optimizer and not parameters:
        yield Traffic("updated weights, from the host", HOST, trained, "16-bit weights of a share")
    if parameters or spread.fsdp_offload:
        yield Traffic("weights, from the host", HOST, gathers * held, f"{gathers} × weights of a share")


def updated(job: Job, estimate: Estimate) -> Iterator[Traffic]:
    """The least that an optimizer's update reads and writes: weights and states twice, gradients once."""
    zero = job.parallelism.zero
    if (zero is not None and zero.offload_optimizer != "none") or job.parallelism.fsdp_offload:
        return
    if not estimate.total_parameters:
        return
    share = _states_share(job)
    trained = estimate.gradients // share
    moved = 3 * trained + 2 * estimate.optimizer_states
    yield Traffic("optimizer's update", MEMORY, moved, "3 × trained weights + 2 × states")


def _states_share(job: Job) -> int:
    """Ranks that share the update."""
    spread = job.parallelism
    if spread.zero is not None and spread.zero.stage > 0:
        return max(1, spread.world_size)
    return spread.sharing if spread.strategy == "fsdp" and spread.fsdp_sharding != "none" else 1
