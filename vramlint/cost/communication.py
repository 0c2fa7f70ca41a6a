"""Bytes that one GPU sends to others in an optimizer step.

Ring algorithms: of `n` ranks each sends (n - 1)/n of the data in a gather or a scatter, and twice that in an all-reduce
(NVIDIA/nccl-tests doc/PERFORMANCE.md). ZeRO stages 1 and 2 move as much as data parallelism, stage 3 half as much
again: https://arxiv.org/abs/1910.02054, section 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from vramlint.cost.megatron import exchanged
from vramlint.estimate import Estimate, Traffic
from vramlint.job import DTYPE_BYTES, ConfigValue, Job, SharedSequence

LINK = "gpus"
_REPEATING = frozenset({"xtuner", "torchtune"})
"""Forms of shared sequences, and models, whose keys are repeated for every head of queries before they cross."""


def communication(job: Job, estimate: Estimate) -> Iterator[Traffic]:
    """What is sent, collective by collective; nothing where one GPU trains alone."""
    spread = job.parallelism
    if spread.mesh is not None and spread.mesh.form != "titan":
        yield _of_plan(job, spread.mesh.tensor)
    if spread.world_size <= 1:
        return
    scheme = _SCHEMES.get(spread.strategy)
    if scheme is not None:
        yield from scheme(job, estimate)
    if spread.sequence is not None:
        yield from _sequences(job, spread.sequence)


def _sent(name: str, data: int, ranks: int, times: int, what: str) -> Traffic:
    """`times` gathers or scatters of `data` bytes."""
    share = data * (ranks - 1) // ranks
    count = f"{times} × " if times > 1 else ""
    return Traffic(name, LINK, times * share, f"{count}{what} × ({ranks} - 1)/{ranks}")


def _ddp(job: Job, estimate: Estimate) -> Iterator[Traffic]:
    """One all-reduce for each optimizer step: the other micro batches run under no_sync."""
    yield _sent("gradients, all-reduce", estimate.gradients, job.parallelism.world_size, 2, "gradients")


def _deepspeed(job: Job, estimate: Estimate) -> Iterator[Traffic]:
    """DeepSpeed 0.19: stages 2 and 3 reduce every micro batch's gradients, 0 and 1 those of the step."""
    spread, zero = job.parallelism, job.parallelism.zero
    stage, ranks = zero.stage if zero is not None else 0, spread.world_size
    batches = job.batch.gradient_accumulation_steps
    trained = estimate.trainable_parameters * _width(job)
    if stage == 0:
        yield _sent("gradients, all-reduce", trained, ranks, 2, "gradients")
        return
    yield _sent("gradients, reduce-scatter", trained, ranks, batches if stage > 1 else 1, "gradients")
    if stage < 3:
        yield _sent("updated weights, all-gather", trained, ranks, 1, "trained weights")
        return
    yield _sent("weights, all-gather", _weights(job, estimate), ranks, 2 * batches, "weights")


def _fsdp(job: Job, estimate: Estimate) -> Iterator[Traffic]:
    """Full: units are gathered in forward and in backward, which recomputes inside the unit; grad-op: in forward."""
    spread = job.parallelism
    batches = job.batch.gradient_accumulation_steps
    reductions = batches if spread.sync_each_batch else 1
    trained = estimate.trainable_parameters * _reduced_width(job)
    if spread.fsdp_sharding == "none":
        yield _sent("gradients, all-reduce", trained, spread.world_size, 2 * reductions, "gradients")
        return
    gathers = batches * (1 if spread.fsdp_sharding == "grad-op" else 2)
    ranks = spread.sharing
    if ranks > 1:
        yield _sent("weights, all-gather", _weights(job, estimate), ranks, gathers, "weights")
        yield _sent("gradients, reduce-scatter", trained, ranks, reductions, "gradients")
    if spread.replicas > 1:
        share = "a share of the gradients"
        yield _sent("gradients, all-reduce", trained // ranks, spread.replicas, 2 * reductions, share)


def _sequences(job: Job, sequence: SharedSequence) -> Iterator[Traffic]:
    """What attention sends of shared sequences, forward, recomputed and backward.

    Queries, keys, values and the output cross the ranks (Ulysses: https://arxiv.org/abs/2309.14509, section 3), or
    keys, values and their gradients go round (https://arxiv.org/abs/2310.01889).
    """
    config, batch, ranks = job.model.config, job.batch, sequence.ranks
    heads, layers, hidden = (_whole(config, key) for key in ("num_attention_heads", "num_hidden_layers", "hidden_size"))
    repeats = bool(_REPEATING & {sequence.form, job.model.model_type})
    kept = heads if repeats else _whole(config, "num_key_value_heads") or heads
    size = _whole(config, "head_dim") or hidden // max(1, heads)
    tokens = batch.micro_batch_size * batch.sequence_length // (1 if sequence.of_rank else ranks)
    each = tokens * size * _width(job) * layers * batch.gradient_accumulation_steps
    again = job.checkpointing.mode != "none"
    if sequence.by_heads:
        data = 2 * each * (heads + max(kept, ranks))
        yield _sent("attention, all-to-all", data, ranks, 3 if again else 2, "queries, keys, values and outputs")
        return
    rounds = (4 if again else 3) * (ranks - 1)
    what = f"{4 if again else 3} × ({ranks} - 1) × keys and values of a share"
    yield Traffic("ring attention", LINK, rounds * 2 * each * kept, what)


def _of_plan(job: Job, ranks: int) -> Traffic:
    """Sums over the ranks that share matrices: behind attention and MLP, in backward of each matrix divided by columns.

    transformers 5.23 distributed/tensor_parallel.py.
    """
    config, batch, sequence = job.model.config, job.batch, job.parallelism.sequence
    tokens = batch.micro_batch_size * batch.sequence_length // (1 if sequence is None else sequence.ranks)
    data = tokens * _whole(config, "hidden_size") * _whole(config, "num_hidden_layers") * _width(job)
    times = 2 * (7 + 2 * (job.checkpointing.mode != "none"))
    return _sent("matrices, all-reduce", data * batch.gradient_accumulation_steps, ranks, times, "activations")


def _whole(config: Mapping[str, ConfigValue], key: str) -> int:
    value = config.get(key)
    return value if isinstance(value, int) else 0


def _width(job: Job) -> int:
    """Bytes of an element of what is gathered and reduced: that of the computation."""
    return DTYPE_BYTES[job.precision.autocast or job.precision.weights]


def _reduced_width(job: Job) -> int:
    return DTYPE_BYTES[job.parallelism.fsdp_reduce_dtype] if job.parallelism.fsdp_reduce_dtype else _width(job)


def _weights(job: Job, estimate: Estimate) -> int:
    """Bytes of the whole model as it is gathered: a quantized one as it is stored."""
    if job.quantization is not None:
        return estimate.parameters * job.parallelism.sharing
    return estimate.total_parameters * _width(job)


Scheme = Callable[[Job, Estimate], Iterator[Traffic]]
_SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {"ddp": _ddp, "deepspeed": _deepspeed, "fsdp": _fsdp, "megatron": exchanged}
)
