"""Changes to a job that bring its peak down, each with its price and its condition.

`price` orders them: what costs nothing first, then what only costs time, then what changes numerics, last what changes
which weights are trained. Figures of slowdown are of the sources named at each row; they order the moves and
word the advice, the plan's peak never depends on them.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from vramlint.fixes.changes import (
    LORA_RANK,
    Changes,
    always,
    batch_facts,
    sharing_facts,
    smaller_batch,
    with_autocast,
    with_bf16_weights,
    with_cast_while_loading,
    with_checkpoints,
    with_distributed_optimizer,
    with_evaluation,
    with_expandable_segments,
    with_liger,
    with_lora,
    with_optimizer,
    with_qlora,
    with_sharing,
    with_sync,
    with_zero,
)
from vramlint.fixes.conditions import (
    STAGE3,
    can_adapt,
    can_cast_while_loading,
    can_checkpoint,
    can_distribute,
    can_expand,
    can_fuse_loss,
    can_load_bf16,
    can_move_logits,
    can_offload_optimizer,
    can_offload_parameters,
    can_offload_shares,
    can_quantize,
    can_shard_across,
    can_shard_fully,
    can_shrink_batch,
    can_shrink_evaluation,
    can_sync,
    can_use_8bit,
    can_use_bf16,
    can_use_fused,
    can_use_sdpa,
    can_use_stage,
    can_wrap_layers,
)
from vramlint.job import Attention, Gpu, Job


class Move(Struct, frozen=True):
    """One kind of change."""

    name: str
    price: int
    safe: bool
    """The training result doesn't change beyond numerics of the same precision."""
    words: str
    """The change in words, for a run whose files have no place for it."""
    cost: str
    applies: Callable[[Job, Gpu], bool]
    change: Callable[[Job], Job]
    facts: Callable[[Job], Changes]
    """The facts that differ, given the job before the change."""
    cost_beside_adapter: str = ""
    """What it costs when only adapters are trained, if that is another thing."""
    words_beside_adapter: str = ""
    """Its words for a job that trains adapters already, if they are others."""
    package: str = ""
    """What has to be installed for it, of a safe move: it is made only where unsafe fixes are."""


MOVES: tuple[Move, ...] = (
    Move(
        "fused-optimizer", 0, True, "the fused AdamW", "no cost",
        can_use_fused, with_optimizer("adamw_torch_fused"), always({"optimizer": "adamw_torch_fused"}),
    ),
    Move(
        # one weight after the other: transformers 5.23 core_model_loading.py, 4.57 modeling_utils.py
        "cast-while-loading", 0, True, "weights loaded in the dtype that they are cast to", "no cost, same weights",
        can_cast_while_loading, with_cast_while_loading, lambda job: {"arrival_dtype": job.precision.weights},
    ),
    Move(
        "sdpa", 0, True, "attention through SDPA instead of eager", "no cost, faster",
        can_use_sdpa, lambda job: replace(job, attention=Attention("sdpa", job.attention.use_cache)),
        always({"attention_implementation": "sdpa"}),
    ),
    Move(
        # liger-kernel computes the loss in chunks of the sequence: https://arxiv.org/abs/2410.10989, section 3.2
        "fused-loss", 1, True, "Liger's fused loss", "no cost; needs the package liger-kernel",
        can_fuse_loss, with_liger,
        always({"fused_loss": True}), package="liger-kernel",
    ),
    Move(
        "smaller-eval-batch", 2, True, "an evaluation batch of one sequence", "same metrics; evaluation takes longer",
        can_shrink_evaluation, with_evaluation(micro_batch_size=1), always({"eval_micro_batch_size": 1}),
    ),
    Move(
        "eval-accumulation", 2, True, "logits of the evaluation moved to the host after every batch",
        "same metrics; evaluation takes longer, its logits need host memory",
        can_move_logits, with_evaluation(accumulation_batches=1), always({"eval_accumulation_steps": 1}),
    ),
    Move(
        # ZeRO stages 1 and 2 keep data parallelism's communication volume: https://arxiv.org/abs/1910.02054, section 7
        "zero-1", 3, True, "DeepSpeed ZeRO stage 1", "about the same speed; needs DeepSpeed",
        can_use_stage(1), with_zero(stage=1), always({"zero_stage": 1}),
    ),
    Move(
        "zero-2", 4, True, "DeepSpeed ZeRO stage 2", "about the same speed; needs DeepSpeed",
        can_use_stage(2), with_zero(stage=2), always({"zero_stage": 2}),
    ),
    Move(
        # the states are divided as ZeRO's first stage divides them; its reduce-scatter and all-gather are an all-reduce
        "distributed-optimizer", 5, True, "Megatron's distributed optimizer", "about the same speed",
        can_distribute, with_distributed_optimizer, always({"distributed_optimizer": True}),
    ),
    Move(
        # torch 2.13 distributed/fsdp/fully_sharded_data_parallel.py: without a policy the root alone is a unit
        "fsdp-wrap-layers", 6, True, "every layer an FSDP unit of its own", "about the same speed",
        can_wrap_layers, with_sharing(fsdp_wraps_layers=True), sharing_facts(fsdp_wraps_layers=True),
    ),
    Move(
        "smaller-micro-batch", 10, True, "a smaller micro batch with more accumulation",
        "same global batch; slower as the GPU is filled less",
        can_shrink_batch, lambda job: smaller_batch(job, 1), lambda job: batch_facts(job, 1),
    ),
    Move(
        # one more forward pass: https://arxiv.org/abs/1604.06174, section 4
        "activation-checkpointing", 30, True, "activation checkpointing", "same result; the forward runs twice",
        can_checkpoint, with_checkpoints,
        always({"activation_checkpointing": True}),
    ),
    Move(
        # every micro batch then moves what the last one of a step does: accelerate 1.15 accelerator.py, accumulate
        "sync-each-batch", 32, True, "gradients that FSDP reduces after every micro batch",
        "more communication, same result", can_sync, with_sync, always({"sync_each_batch": True}),
    ),
    Move(
        # stage 3 moves 1.5 times the data: https://arxiv.org/abs/1910.02054, section 7.2.2
        "zero-3", 35, True, "DeepSpeed ZeRO stage 3", "1.5 times the communication; needs DeepSpeed",
        can_use_stage(STAGE3), with_zero(stage=STAGE3), always({"zero_stage": STAGE3}),
    ),
    Move(
        # gathers in backward again, as ZeRO's third stage: 1.5 times the data of data parallelism
        "fsdp-full-shard", 36, True, "FSDP's full sharding", "more communication, same result",
        can_shard_fully, with_sharing(fsdp_sharding="full"), sharing_facts(fsdp_sharding="full"),
    ),
    Move(
        "fsdp-across-machines", 38, True, "FSDP's sharding over all GPUs instead of groups of them",
        "gathers between the groups", can_shard_across, with_sharing(replicas=1), sharing_facts(replicas=1),
    ),
    Move(
        "bf16-autocast", 40, False, "bf16 mixed precision", "faster; activations in bfloat16",
        can_use_bf16, with_autocast, always({"bf16": True}),
    ),
    Move(
        # https://arxiv.org/abs/2110.02861
        "8bit-optimizer", 50, False, "8-bit AdamW", "same speed; states in 8 bits, needs the package bitsandbytes",
        can_use_8bit, with_optimizer("adamw_bnb_8bit"), always({"optimizer": "adamw_bnb_8bit"}),
    ),
    Move(
        "paged-8bit-optimizer", 60, False, "paged 8-bit AdamW",
        "slower when states are paged out; states in 8 bits, needs the package bitsandbytes",
        can_use_8bit, with_optimizer("paged_adamw_8bit"), always({"optimizer": "paged_adamw_8bit"}),
    ),
    Move(
        "bf16-weights", 80, False, "weights loaded in bfloat16",
        "weights, gradients and states in bfloat16: small updates are lost",
        can_load_bf16, with_bf16_weights, always({"load_dtype": "bfloat16"}),
        "no cost: the base is frozen, adapters stay in float32",
    ),
    Move(
        # https://arxiv.org/abs/2101.06840
        "offload-optimizer", 100, True, "the optimizer offloaded to host memory",
        "slower: the host updates the weights; needs host memory",
        can_offload_optimizer, with_zero(offload_optimizer="cpu"), always({"offload_optimizer": "cpu"}),
    ),
    Move(
        # torch 2.13 distributed/fsdp, CPUOffload: shares, their gradients and the update are on the host
        "fsdp-offload", 120, True, "FSDP's shares offloaded to host memory",
        "far slower: the host updates the weights; needs host memory",
        can_offload_shares, with_sharing(fsdp_offload=True), sharing_facts(fsdp_offload=True),
    ),
    Move(
        "offload-parameters", 150, True, "the parameters offloaded to host memory", "far slower; needs host memory",
        can_offload_parameters, with_zero(offload_parameters="cpu"), always({"offload_parameters": "cpu"}),
    ),
    Move(
        "lora", 300, False, f"LoRA (rank {LORA_RANK}, all linear layers)", "trains adapters, not the model itself",
        can_adapt, with_lora, always({"tuning": "lora", "lora_r": LORA_RANK, "lora_target_modules": "all-linear"}),
    ),
    Move(
        "qlora", 400, False, f"QLoRA (4-bit base, rank {LORA_RANK})",
        "trains adapters on a 4-bit base; needs the package bitsandbytes",
        can_quantize, with_qlora, always({"tuning": "qlora", "quantization_bits": 4}),
        cost_beside_adapter="a base of 4 bits; needs the package bitsandbytes",
        words_beside_adapter="a 4-bit base under the adapters (QLoRA)",
    ),
)  # fmt: skip
"""All moves, cheapest first."""

EXPANDABLE = Move(
    # torch 2.13 c10/cuda/CUDACachingAllocator.cpp, "Expandable Segments"
    "expandable-segments", 0, True, "expandable segments", "no cost",
    can_expand, with_expandable_segments, always({"allocator_settings": "expandable_segments:True"}),
)  # fmt: skip
"""What helps where tensors have room and segments have not; it takes nothing off the tensors themselves."""

UNCOUNTED = frozenset({"smaller-micro-batch"})
"""Moves whose effect on the time of a step is none of floating-point operations or traffic that are counted: how much
less a smaller micro batch fills a GPU depends on its kernels."""

EXCLUSIVE: tuple[frozenset[str], ...] = (
    frozenset({"fused-optimizer", "8bit-optimizer", "paged-8bit-optimizer"}),
    frozenset({"zero-1", "zero-2", "zero-3"}),
    frozenset({"lora", "qlora"}),
)
"""Of each of these sets a plan takes one move at most: the later replaces the earlier."""
