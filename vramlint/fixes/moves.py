"""Changes to a job that bring its peak down, each with its price and its condition.

`price` orders them: what costs nothing first, then what only costs time, then what changes numerics, last what changes
which weights are trained. Figures of slowdown are of the sources named at each row; they order the moves and
word the advice, the plan's peak never depends on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from vramlint.catalog.liger import FUSED_HEAD, kernels_of
from vramlint.facts import FactValue
from vramlint.job import Adapter, Attention, Checkpointing, Evaluation, Gpu, Job, Quantization, Zero

Changes = Mapping[str, FactValue]
"""Fact names to their new values."""


class Move(NamedTuple):
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


FOREACH_ADAM = ("adamw_torch", "adam_torch")
ADAM = (*FOREACH_ADAM, "adamw_torch_fused", "adamw_hf", "adamw_apex_fused")
"""Catalog names of Adam variants with two full-precision states on the GPU."""

LIGER_MIXTURES = frozenset({"deepseek_v2", "deepseek_v3", "hunyuan_v1_moe", "mixtral", "qwen3_moe", "qwen3_next"})
"""Models whose experts Liger computes in a kernel that is not simulated."""
LORA_RANK = 16

STAGE3 = 3


def _is_trained(job: Job) -> bool:
    return job.objective.kind == "training"


def _free_of_deepspeed(job: Job) -> bool:
    return job.parallelism.strategy in ("none", "ddp", "deepspeed")


def _can_use_fused(job: Job, _gpu: Gpu) -> bool:
    return job.optimizer.name in FOREACH_ADAM and job.parallelism.zero is None and job.libraries.torch >= (2, 0)


def _by_megatron(job: Job) -> bool:
    """Megatron-Core trains: with its own optimizers, and with the layers and attention of its own modules."""
    return job.parallelism.megatron is not None


def _can_checkpoint(job: Job, _gpu: Gpu) -> bool:
    engine = job.parallelism.megatron
    recomputes = engine is not None and engine.recompute == "full"
    return _is_trained(job) and job.checkpointing.mode == "none" and not recomputes


def _with_checkpoints(job: Job) -> Job:
    engine = job.parallelism.megatron
    if engine is not None:
        engine = replace(engine, recompute="full", recompute_method="uniform", recompute_layers=1)
        job = replace(job, parallelism=replace(job.parallelism, megatron=engine))
    return replace(job, checkpointing=Checkpointing("nonreentrant"))


def _can_distribute(job: Job, _gpu: Gpu) -> bool:
    engine = job.parallelism.megatron
    if engine is None or engine.distributed_optimizer or not _is_trained(job):
        return False
    return job.parallelism.world_size > engine.tensor * engine.pipeline


def _with_distributed_optimizer(job: Job) -> Job:
    engine = job.parallelism.megatron
    divided = None if engine is None else replace(engine, distributed_optimizer=True)
    return replace(job, parallelism=replace(job.parallelism, megatron=divided))


def _can_shrink_batch(job: Job, _gpu: Gpu) -> bool:
    return _is_trained(job) and job.batch.micro_batch_size > 1


def _can_shrink_evaluation(job: Job, _gpu: Gpu) -> bool:
    return job.evaluation is not None and job.evaluation.micro_batch_size > 1


def _can_move_logits(job: Job, _gpu: Gpu) -> bool:
    evaluation = job.evaluation
    return evaluation is not None and evaluation.keeps_logits and evaluation.accumulation_batches is None


def _can_fuse_loss(job: Job, _gpu: Gpu) -> bool:
    fuses = FUSED_HEAD in kernels_of(job.model.model_type, {}) and job.model.model_type not in LIGER_MIXTURES
    suits = fuses and job.objective.loss == "causal-lm" and not job.kernels and not _by_megatron(job)
    return suits and job.objective.loop == "trainer" and job.libraries.transformers >= (4, 45)


def _with_liger(job: Job) -> Job:
    kernels = kernels_of(job.model.model_type, {})
    return replace(job, objective=replace(job.objective, loss="fused"), kernels=kernels)


def _can_use_bf16(job: Job, gpu: Gpu) -> bool:
    return gpu.bf16 and job.precision.autocast is None and job.precision.weights == "float32" and _is_trained(job)


def _can_load_bf16(job: Job, gpu: Gpu) -> bool:
    narrows = gpu.bf16 and job.precision.weights == "float32" and job.parallelism.zero is None
    return narrows and not _by_megatron(job)


def _can_use_8bit(job: Job, _gpu: Gpu) -> bool:
    # DeepSpeed refuses optimizers that it has not tested with ZeRO (runtime/engine.py, zero_allow_untested_optimizer)
    return job.optimizer.name in ADAM and job.parallelism.zero is None and not _by_megatron(job)


def _can_use_stage(stage: int) -> Callable[[Job, Gpu], bool]:
    def applies(job: Job, _gpu: Gpu) -> bool:
        zero = job.parallelism.zero
        quantized_above = job.quantization is not None and stage == STAGE3
        below = zero is None or zero.stage < stage
        return job.parallelism.world_size > 1 and _free_of_deepspeed(job) and below and not quantized_above

    return applies


def _can_offload_optimizer(job: Job, _gpu: Gpu) -> bool:
    zero = job.parallelism.zero
    # A job without DeepSpeed would need a new launcher as well: offered only where ZeRO is in use already.
    return zero is not None and zero.stage >= 1 and zero.offload_optimizer == "none"


def _can_offload_parameters(job: Job, _gpu: Gpu) -> bool:
    zero = job.parallelism.zero
    return zero is not None and zero.stage == STAGE3 and zero.offload_parameters == "none"


def _can_sync(job: Job, _gpu: Gpu) -> bool:
    shared = job.parallelism
    holds = shared.strategy == "fsdp" and shared.fsdp_sharding != "none" and shared.world_size > 1
    return holds and not shared.sync_each_batch and job.batch.gradient_accumulation_steps > 1 and _is_trained(job)


def _can_adapt(job: Job, _gpu: Gpu) -> bool:
    suits = _is_trained(job) and job.adapter is None and not _by_megatron(job)
    return suits and job.model.task in ("causal-lm", "seq2seq-lm", "seq-cls")


def _can_quantize(job: Job, _gpu: Gpu) -> bool:
    return (
        _is_trained(job)
        and job.quantization is None
        and not _by_megatron(job)
        and (job.parallelism.zero is None or job.parallelism.zero.stage < STAGE3)
    )


def smaller_batch(job: Job, micro_batch_size: int) -> Job:
    """The same sequences per optimizer step in more, smaller micro batches."""
    factor = job.batch.micro_batch_size // micro_batch_size
    accumulation = job.batch.gradient_accumulation_steps * factor
    batch = replace(job.batch, micro_batch_size=micro_batch_size, gradient_accumulation_steps=accumulation)
    return replace(job, batch=batch)


def batch_facts(job: Job, micro_batch_size: int) -> Changes:
    """The facts of `smaller_batch`."""
    batch = smaller_batch(job, micro_batch_size).batch
    return {
        "micro_batch_size": batch.micro_batch_size,
        "gradient_accumulation_steps": batch.gradient_accumulation_steps,
    }


def _with_optimizer(name: str) -> Callable[[Job], Job]:
    return lambda job: replace(job, optimizer=replace(job.optimizer, name=name))


def _with_evaluation(**fields: int) -> Callable[[Job], Job]:
    def change(job: Job) -> Job:
        evaluation = replace(job.evaluation or Evaluation(), **fields)  # type: ignore[arg-type]  # rows below name its fields
        return replace(job, evaluation=evaluation)

    return change


def _with_autocast(job: Job) -> Job:
    return replace(job, precision=replace(job.precision, autocast="bfloat16", grad_scaler=False))


def _with_bf16_weights(job: Job) -> Job:
    return replace(job, precision=replace(job.precision, weights="bfloat16", grad_scaler=False))


def _with_zero(**fields: int | str) -> Callable[[Job], Job]:
    def change(job: Job) -> Job:
        zero = replace(job.parallelism.zero or Zero(), **fields)  # type: ignore[arg-type]  # rows below name Zero's fields
        return replace(job, parallelism=replace(job.parallelism, strategy="deepspeed", zero=zero))

    return change


def _with_sync(job: Job) -> Job:
    return replace(job, parallelism=replace(job.parallelism, sync_each_batch=True))


def _with_lora(job: Job) -> Job:
    return replace(job, adapter=Adapter(r=LORA_RANK, target_modules="all-linear"))


def _with_qlora(job: Job) -> Job:
    base = job if job.adapter is not None else _with_lora(job)
    compute = "bfloat16" if job.gpu is None or job.gpu.bf16 else "float16"
    quantization = Quantization("nf4", double_quantization=True, compute_dtype=compute, prepared_for_kbit=True)
    return replace(base, quantization=quantization)


def _always(changes: dict[str, FactValue]) -> Callable[[Job], Changes]:
    kept = MappingProxyType(changes)
    return lambda _job: kept


MOVES: tuple[Move, ...] = (
    Move(
        "fused-optimizer", 0, True, "the fused AdamW", "no cost",
        _can_use_fused, _with_optimizer("adamw_torch_fused"), _always({"optimizer": "adamw_torch_fused"}),
    ),
    Move(
        "sdpa", 0, True, "attention through SDPA instead of eager", "no cost, faster",
        lambda job, _gpu: job.attention.implementation == "eager" and not _by_megatron(job),
        lambda job: replace(job, attention=Attention("sdpa", job.attention.use_cache)),
        _always({"attention_implementation": "sdpa"}),
    ),
    Move(
        # liger-kernel computes the loss in chunks of the sequence: https://arxiv.org/abs/2410.10989, section 3.2
        "fused-loss", 1, True, "Liger's fused loss", "no cost; needs the package liger-kernel",
        _can_fuse_loss, _with_liger,
        _always({"fused_loss": True}),
    ),
    Move(
        "smaller-eval-batch", 2, True, "an evaluation batch of one sequence", "same metrics; evaluation takes longer",
        _can_shrink_evaluation, _with_evaluation(micro_batch_size=1), _always({"eval_micro_batch_size": 1}),
    ),
    Move(
        "eval-accumulation", 2, True, "logits of the evaluation moved to the host after every batch",
        "same metrics; evaluation takes longer, its logits need host memory",
        _can_move_logits, _with_evaluation(accumulation_batches=1), _always({"eval_accumulation_steps": 1}),
    ),
    Move(
        # ZeRO stages 1 and 2 keep data parallelism's communication volume: https://arxiv.org/abs/1910.02054, section 7
        "zero-1", 3, True, "DeepSpeed ZeRO stage 1", "about the same speed; needs DeepSpeed",
        _can_use_stage(1), _with_zero(stage=1), _always({"zero_stage": 1}),
    ),
    Move(
        "zero-2", 4, True, "DeepSpeed ZeRO stage 2", "about the same speed; needs DeepSpeed",
        _can_use_stage(2), _with_zero(stage=2), _always({"zero_stage": 2}),
    ),
    Move(
        # the states are divided as ZeRO's first stage divides them; its reduce-scatter and all-gather are an all-reduce
        "distributed-optimizer", 5, True, "Megatron's distributed optimizer", "about the same speed",
        _can_distribute, _with_distributed_optimizer, _always({"distributed_optimizer": True}),
    ),
    Move(
        "smaller-micro-batch", 10, True, "a smaller micro batch with more accumulation",
        "same global batch; slower as the GPU is filled less",
        _can_shrink_batch, lambda job: smaller_batch(job, 1), lambda job: batch_facts(job, 1),
    ),
    Move(
        # one more forward pass: https://arxiv.org/abs/1604.06174, section 4
        "activation-checkpointing", 30, True, "activation checkpointing", "same result; the forward runs twice",
        _can_checkpoint, _with_checkpoints,
        _always({"activation_checkpointing": True}),
    ),
    Move(
        # every micro batch then moves what the last one of a step does: accelerate 1.15 accelerator.py, accumulate
        "sync-each-batch", 32, True, "gradients that FSDP reduces after every micro batch",
        "more communication, same result", _can_sync, _with_sync, _always({"sync_each_batch": True}),
    ),
    Move(
        # stage 3 moves 1.5 times the data: https://arxiv.org/abs/1910.02054, section 7.2.2
        "zero-3", 35, True, "DeepSpeed ZeRO stage 3", "1.5 times the communication; needs DeepSpeed",
        _can_use_stage(STAGE3), _with_zero(stage=STAGE3), _always({"zero_stage": STAGE3}),
    ),
    Move(
        "bf16-autocast", 40, False, "bf16 mixed precision", "faster; activations in bfloat16",
        _can_use_bf16, _with_autocast, _always({"bf16": True}),
    ),
    Move(
        # https://arxiv.org/abs/2110.02861
        "8bit-optimizer", 50, False, "8-bit AdamW", "same speed; states in 8 bits, needs the package bitsandbytes",
        _can_use_8bit, _with_optimizer("adamw_bnb_8bit"), _always({"optimizer": "adamw_bnb_8bit"}),
    ),
    Move(
        "paged-8bit-optimizer", 60, False, "paged 8-bit AdamW",
        "slower when states are paged out; states in 8 bits, needs the package bitsandbytes",
        _can_use_8bit, _with_optimizer("paged_adamw_8bit"), _always({"optimizer": "paged_adamw_8bit"}),
    ),
    Move(
        "bf16-weights", 80, False, "weights loaded in bfloat16",
        "weights, gradients and states in bfloat16: small updates are lost",
        _can_load_bf16, _with_bf16_weights, _always({"load_dtype": "bfloat16"}),
        "no cost: the base is frozen, adapters stay in float32",
    ),
    Move(
        # https://arxiv.org/abs/2101.06840
        "offload-optimizer", 100, True, "the optimizer offloaded to host memory",
        "slower: the host updates the weights; needs host memory",
        _can_offload_optimizer, _with_zero(offload_optimizer="cpu"), _always({"offload_optimizer": "cpu"}),
    ),
    Move(
        "offload-parameters", 150, True, "the parameters offloaded to host memory", "far slower; needs host memory",
        _can_offload_parameters, _with_zero(offload_parameters="cpu"), _always({"offload_parameters": "cpu"}),
    ),
    Move(
        "lora", 300, False, f"LoRA (rank {LORA_RANK}, all linear layers)", "trains adapters, not the model itself",
        _can_adapt, _with_lora, _always({"tuning": "lora", "lora_r": LORA_RANK, "lora_target_modules": "all-linear"}),
    ),
    Move(
        "qlora", 400, False, f"QLoRA (4-bit base, rank {LORA_RANK})",
        "trains adapters on a 4-bit base; needs the package bitsandbytes",
        _can_quantize, _with_qlora, _always({"tuning": "qlora", "quantization_bits": 4}),
    ),
)  # fmt: skip
"""All moves, cheapest first."""

UNCOUNTED = frozenset({"sdpa", "smaller-micro-batch"})
"""Moves whose effect on the time of a step is none of floating-point operations or traffic that are counted: eager
attention waits for memory, and how much less a smaller micro batch fills a GPU depends on its kernels."""

EXCLUSIVE: tuple[frozenset[str], ...] = (
    frozenset({"fused-optimizer", "8bit-optimizer", "paged-8bit-optimizer"}),
    frozenset({"zero-1", "zero-2", "zero-3"}),
    frozenset({"lora", "qlora"}),
)
"""Of each of these sets a plan takes one move at most: the later replaces the earlier."""
