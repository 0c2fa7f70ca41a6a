"""Changes that only somebody who asks for every way out is offered; `moves.py` has those of findings."""

from __future__ import annotations

from msgspec.structs import replace

from vramlint.fixes.changes import (
    FULL_SHARD,
    Changes,
    always,
    batch_facts,
    smaller_batch,
    with_evaluation,
    with_fsdp,
)
from vramlint.fixes.conditions import (
    can_shrink_batch,
    can_shrink_evaluation,
    can_use_fsdp,
    is_trained,
    takes_attention,
)
from vramlint.fixes.moves import Move
from vramlint.fixes.scaling import divides, launched, spread
from vramlint.job import Attention, Evaluation, Gpu, Job

AMPERE = (8, 0)
FLASH = "flash_attention_2"
_WIDE = "float32"
LEAST_LENGTH = 256
"""A sequence is not halved below this."""


def _can_flash(job: Job, gpu: Gpu) -> bool:
    """Scaled products become flash-attn's kernels, which take 16-bit numbers on Ampere and later."""
    narrow = (job.precision.autocast or job.precision.weights) != _WIDE
    recent = gpu.compute_capability is not None and gpu.compute_capability >= AMPERE
    plain = job.objective.loop == "trainer" and not job.kernels and takes_attention(job, FLASH)
    return narrow and recent and plain and job.attention.implementation in ("eager", "sdpa")


def _can_offload_checkpoints(job: Job, _gpu: Gpu) -> bool:
    """Layers are recomputed, and their inputs wait on the device."""
    return is_trained(job) and job.checkpointing.mode != "none" and not job.checkpointing.offload


def _can_update_in_backward(job: Job, _gpu: Gpu) -> bool:
    """All weights train, each micro batch is a step, and nothing clips gradients or divides them."""
    plain = job.parallelism.world_size == 1 and job.adapter is None and is_trained(job)
    single = job.batch.gradient_accumulation_steps == 1 and not job.objective.max_grad_norm
    return plain and single and not job.optimizer.arguments.get("layerwise")


def _in_backward(job: Job) -> Job:
    """The optimizer steps on each gradient as it comes."""
    arguments = {**job.optimizer.arguments, "layerwise": True}
    return replace(job, optimizer=replace(job.optimizer, arguments=arguments))


FLASH_ATTENTION = Move(
    # transformers 5.23 integrations/flash_attention.py; https://arxiv.org/abs/2307.08691
    "flash-attention", 0, True, "FlashAttention 2", "no cost; needs the package flash-attn",
    _can_flash, lambda job: replace(job, attention=Attention(FLASH, job.attention.use_cache)),
    always({"attention_implementation": FLASH}), package="flash-attn",
)  # fmt: skip
CHECKPOINT_OFFLOAD = Move(
    # torchtune 0.6 training/_activation_offloading.py
    "offload-checkpoints", 90, True, "the inputs of recomputed layers offloaded to host memory",
    "slower where the link to the host is; same result",
    _can_offload_checkpoints, lambda job: replace(job, checkpointing=replace(job.checkpointing, offload=True)),
    always({"activation_offloading": True}),
)  # fmt: skip
FSDP = Move(
    # transformers 5.23 training_args.py, fsdp; gathers in backward again: 1.5 times the data of data parallelism
    "fsdp", 34, True, "FSDP (full sharding)", "more communication, same result",
    can_use_fsdp, with_fsdp, always({"fsdp": FULL_SHARD}),
)  # fmt: skip
IN_BACKWARD = Move(
    # torchtune 0.6 recipes/full_finetune_single_device.py: refused with gradient accumulation
    "optimizer-in-backward", 20, True, "an optimizer step within backward",
    "about the same speed; no gradient accumulation",
    _can_update_in_backward, _in_backward, always({"optimizer_in_backward": True}),
)  # fmt: skip


def micro_batch_move(size: int) -> Move:
    """A micro batch of `size` rows, with as many more accumulation steps."""
    return Move(
        f"micro-batch-{size}", 10, True, f"micro batch size {size}", "same global batch",
        lambda job, gpu: can_shrink_batch(job, gpu) and job.batch.micro_batch_size > size
        and job.batch.micro_batch_size % size == 0,
        lambda job: smaller_batch(job, size), lambda job: batch_facts(job, size),
    )  # fmt: skip


def evaluation_batch_move(size: int) -> Move:
    """An evaluation batch of `size` rows."""
    return Move(
        f"evaluation-batch-{size}", 2, True, f"an evaluation batch of {size} sequences",
        "same metrics; evaluation takes longer",
        lambda job, gpu: can_shrink_evaluation(job, gpu) and (job.evaluation or Evaluation()).micro_batch_size > size,
        with_evaluation(micro_batch_size=size), always({"eval_micro_batch_size": size}),
    )  # fmt: skip


def smaller_sizes(size: int) -> tuple[int, ...]:
    """The divisors of a batch below it, from above."""
    return tuple(size // parts for parts in range(2, size + 1) if size % parts == 0)


def length_move(length: int) -> Move:
    """Sequences of `length` tokens at most."""
    return Move(
        f"sequence-length-{length}", 200, False, f"sequence length {length}", "longer samples are cut",
        lambda job, _gpu: is_trained(job) and job.batch.sequence_length > length,
        lambda job: replace(job, batch=replace(job.batch, sequence_length=length)),
        always({"sequence_length": length}),
    )  # fmt: skip


def gpus_move(times: int) -> Move:
    """`times` as many GPUs of the same kind, for a run whose GPUs share the model, or a Trainer's, where they could."""
    return Move(
        f"gpus-x{times}", 250, True, f"{times} times as many GPUs", "more GPUs",
        lambda job, _gpu: _more(job, times) is not None, lambda job: _more(job, times) or job,
        lambda job: _size_facts(job, _more(job, times) or job),
    )  # fmt: skip


def _more(job: Job, times: int) -> Job | None:
    if divides(job.parallelism):
        return spread(job, times)
    return launched(job, times * job.parallelism.world_size) if job.objective.loop == "trainer" else None


def launch_move(gpus: int) -> Move:
    """A process on each of `gpus` GPUs, which the machine has and the run leaves idle so far."""
    return Move(
        "all-gpus", 5, True, f"a process on each of the {gpus} GPUs (torchrun --nproc_per_node {gpus})",
        "all GPUs that are there",
        lambda job, _gpu: launched(job, gpus) is not None, lambda job: launched(job, gpus) or job,
        lambda job: _size_facts(job, launched(job, gpus) or job),
    )  # fmt: skip


def _size_facts(before: Job, after: Job) -> Changes:
    """The number of processes, and the accumulation with which they keep the global batch."""
    if before.parallelism.world_size == after.parallelism.world_size:  # another way to start as many
        return {"world_size": after.parallelism.world_size, "launcher": "torchrun"}
    steps = after.batch.gradient_accumulation_steps
    accumulates = {} if steps == before.batch.gradient_accumulation_steps else {"gradient_accumulation_steps": steps}
    return {"world_size": after.parallelism.world_size, **accumulates}
