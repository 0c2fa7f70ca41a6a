"""Changes that only somebody who asks for every way out is offered; `moves.py` has those of findings."""

from __future__ import annotations

from dataclasses import replace

from vramlint.fixes.changes import always, batch_facts, smaller_batch
from vramlint.fixes.conditions import can_shrink_batch, is_trained
from vramlint.fixes.moves import Move
from vramlint.fixes.scaling import divides, spread
from vramlint.job import Attention, Gpu, Job

AMPERE = (8, 0)
FLASH = "flash_attention_2"
_WIDE = "float32"
LEAST_LENGTH = 256
"""A sequence is not halved below this."""


def _can_flash(job: Job, gpu: Gpu) -> bool:
    """Scaled products become flash-attn's kernels, which take 16-bit numbers on Ampere and later."""
    narrow = (job.precision.autocast or job.precision.weights) != _WIDE
    recent = gpu.compute_capability is not None and gpu.compute_capability >= AMPERE
    plain = job.objective.loop == "trainer" and not job.kernels and job.parallelism.megatron is None
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


def length_move(length: int) -> Move:
    """Sequences of `length` tokens at most."""
    return Move(
        f"sequence-length-{length}", 200, False, f"sequence length {length}", "longer samples are cut",
        lambda job, _gpu: is_trained(job) and job.batch.sequence_length > length,
        lambda job: replace(job, batch=replace(job.batch, sequence_length=length)),
        always({"sequence_length": length}),
    )  # fmt: skip


def gpus_move(times: int) -> Move:
    """`times` as many GPUs of the same kind, for a run whose GPUs share the model."""
    return Move(
        f"gpus-x{times}", 250, True, f"{times} times as many GPUs", "more GPUs",
        lambda job, _gpu: divides(job.parallelism), lambda job: spread(job, times),
        lambda job: {"world_size": spread(job, times).parallelism.world_size},
    )  # fmt: skip
