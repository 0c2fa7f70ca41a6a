"""Floating-point operations of a micro batch and of a step, from what the simulated step counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vramlint.cost.megatron import replicas
from vramlint.estimate import Estimate, Work
from vramlint.job import Job, Megatron

TEXT_TASKS = frozenset({"causal-lm", "masked-lm", "seq-cls", "token-cls", "qa", "seq2seq-lm"})
"""Tasks whose input is counted in tokens, one sequence a sample."""


def micro_batch(job: Job, work: Sequence[Work]) -> tuple[Work, ...]:
    """What a rank computes for a micro batch: all model chunks of its stage, and every key that its queries meet.

    The simulated step runs one chunk of a pipeline's stage, and of a context-parallel rank its own share of the keys.
    """
    engine = job.parallelism.megatron or Megatron()
    keys = engine.context * _sharing_keys(job)
    return tuple(
        Work(
            part.part,
            part.kind,
            part.dtype,
            part.layers,
            part.flops * (engine.chunks if part.layers else 1) * (keys if part.kind == "attention" else 1),
        )
        for part in work
    )


def _sharing_keys(job: Job) -> int:
    """Ranks each of which has a part of the keys: not where all tokens of some heads come together."""
    sequence, mesh = job.parallelism.sequence, job.parallelism.mesh
    return (mesh.context if mesh is not None else 1) * (1 if sequence is None or sequence.by_heads else sequence.ranks)


def busiest(job: Job, estimate: Estimate) -> tuple[Work, ...]:
    """The micro batch of the rank that computes the most."""
    return max(_ranks(job, estimate), key=lambda found: flops(found[0]))[0]


def whole_step(job: Job, estimate: Estimate) -> int:
    """FLOPs of an optimizer step on all GPUs."""
    batches = job.batch.gradient_accumulation_steps
    return batches * sum(count * flops(work) for work, count in _ranks(job, estimate))


def _ranks(job: Job, estimate: Estimate) -> Iterator[tuple[tuple[Work, ...], int]]:
    """Each kind of rank's micro batch, and how many such ranks there are."""
    if estimate.ranks and all(rank.work for rank in estimate.ranks):
        for rank in estimate.ranks:
            yield micro_batch(job, rank.work), rank.ranks
    else:
        count = 1 if job.parallelism.strategy == "device_map" else job.parallelism.gpus
        yield micro_batch(job, estimate.work), count


def _computing(job: Job) -> int:
    """GPUs that compute at the same time: layers spread by a device map wait for one another."""
    return 1 if job.parallelism.strategy == "device_map" else max(1, job.parallelism.world_size)


def flops(work: Sequence[Work], part: str = "", kind: str = "") -> int:
    """Of one part of the step, or one kind of operator, or of all."""
    return sum(item.flops for item in work if part in ("", item.part) and kind in ("", item.kind))


def tokens(job: Job) -> int | None:
    """Positions of an optimizer step on all GPUs, encoder and decoder together."""
    if job.model.task not in TEXT_TASKS:
        return None
    batch = job.batch
    length = batch.sequence_length
    if job.model.task == "seq2seq-lm":
        length += batch.target_length or batch.sequence_length
    data = replicas(job) if job.parallelism.megatron is not None else _computing(job)
    sequence = job.parallelism.sequence
    shared = sequence.ranks if sequence is not None and not sequence.of_rank else 1
    shared *= 1 if job.parallelism.mesh is None else job.parallelism.mesh.context
    return batch.micro_batch_size * length * batch.gradient_accumulation_steps * data // shared
