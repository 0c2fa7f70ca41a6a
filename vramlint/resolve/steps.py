"""The order in which facts are settled, and what each step waits for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec import Struct

from vramlint.facts import Fact
from vramlint.resolve import assume, attention, consequences, derive, ranks
from vramlint.resolve.board import Board
from vramlint.resolve.defaults import DEEPSPEED_KEYS, any_default

Rule = Callable[[Board], Fact | None]


class Step(Struct, frozen=True):
    """One step: `rule` gives the fact `name`, or None to leave things as they are."""

    name: str
    needs: tuple[str, ...]
    """Facts that must have one value before the rule can speak; the step's own fact is always among them."""
    rule: Rule


def _when_missing(name: str) -> Rule:
    def rule(board: Board) -> Fact | None:
        return any_default(board, name) if board.is_missing(name) else None

    return rule


def _bucket_step(name: str) -> Step:
    return Step(name, ("model", "zero_stage"), partial(derive.automatic_bucket, name=name))


STEPS: tuple[Step, ...] = (
    Step("fp16", (), _when_missing("fp16")),
    Step("bf16", ("fp16",), derive.half_flags),
    Step("activation_checkpointing", (), derive.checkpointing),
    Step("fused_loss", (), derive.fused_loss),
    Step("model_type", ("model",), derive.model_type),
    Step("quantization_bits", ("model",), derive.quantization_bits),
    Step("quantization_type", ("quantization_bits",), derive.quantization_type),
    Step("double_quantization", ("quantization_bits",), _when_missing("double_quantization")),
    Step("quantization_compute_dtype", ("quantization_bits",), _when_missing("quantization_compute_dtype")),
    Step("tuning", ("quantization_bits",), derive.tuning),
    Step("lora_r", ("tuning",), _when_missing("lora_r")),
    Step("lora_alpha", ("tuning",), _when_missing("lora_alpha")),
    Step("lora_dropout", ("tuning",), _when_missing("lora_dropout")),
    Step("use_dora", ("tuning",), _when_missing("use_dora")),
    Step("lora_target_modules", ("tuning", "model", "model_type"), derive.lora_target_modules),
    Step("load_dtype", ("model", "quantization_bits"), derive.load_dtype),
    Step("arrival_dtype", ("model", "quantization_bits"), derive.arrival_dtype),
    Step("precision", ("bf16", "fp16", "load_dtype"), derive.precision),
    Step("zero_stage", (), partial(derive.automatic_bucket, name="zero_stage")),
    *(_bucket_step(name) for name in DEEPSPEED_KEYS if name != "zero_stage"),
    Step("overlap_comm", ("zero_stage",), derive.overlap_comm),
    Step("optimizer", ("offload_optimizer",), derive.optimizer),
    Step("checkpointing_reentrant", ("activation_checkpointing",), _when_missing("checkpointing_reentrant")),
    Step("use_cache", ("activation_checkpointing",), derive.use_cache),
    Step("attention_implementation", ("model_type",), attention.replaced_attention),
    Step("attention_implementation", (), attention.default_attention),
    Step("torch_compile", (), _when_missing("torch_compile")),
    Step("max_grad_norm", (), derive.max_grad_norm),
    Step("packing", ("objective",), derive.packing),
    Step("padding_free", ("packing",), derive.padding_free),
    Step("micro_batch_size", (), derive.micro_batch_size),
    Step("micro_batch_size", (), assume.micro_batch_size),
    Step("micro_batch_size", ("batch_adapts",), assume.adapting_batch),
    Step("eval_micro_batch_size", (), _when_missing("eval_micro_batch_size")),
    Step("gradient_accumulation_steps", ("micro_batch_size",), derive.accumulation),
    Step(
        "world_size",
        ("micro_batch_size", "gradient_accumulation_steps", "zero_stage", "fsdp", "parallelism"),
        ranks.world_size,
    ),
    Step("parallelism", ("world_size", "zero_stage", "fsdp"), ranks.parallelism),
    Step("fsdp_version", ("fsdp",), ranks.fsdp_version),
    Step("fsdp_backward_prefetch", ("fsdp", "fsdp_version"), ranks.backward_prefetch),
    Step("trainable_dtype", ("load_dtype", "parallelism", "tuning", "bf16", "fp16"), consequences.trainable_dtype),
    Step("kl_coefficient", (), _when_missing("kl_coefficient")),
    Step("reference_model", ("objective", "tuning", "kl_coefficient"), consequences.reference_model),
    *(Step(name, (), partial(consequences.of_engine, name=name)) for name in consequences.ENGINE),
    Step("full_logits", ("objective", "fused_loss"), consequences.full_logits),
    Step("expandable_segments", (), consequences.expandable_segments),
    *(Step(name, (), _when_missing(name)) for name in ("prompt_length", "completion_length", "generations")),
    Step("sequence_length", ("model",), assume.sequence_length),
    Step("padding", ("packing", "micro_batch_size", "attention_implementation"), assume.padding),
)
"""Every step in order: a step stands after those that give what it needs."""

LATER = (
    "model",
    "micro_batch_size",
    "sequence_length",
    "world_size",
    "padding",
    "deepspeed_config",
    "accelerate_config",
    "gpu",
)
"""Facts whose being unknown is no range of values: their own steps deal with it, or nothing can."""

SPANNING = frozenset(
    (
        "model",
        "quantization_bits",
        "quantization_type",
        "double_quantization",
        "quantization_compute_dtype",
        "tuning",
        "lora_r",
        "lora_target_modules",
        "lora_modules_to_save",
        "use_dora",
        "adapter_bias",
        "lora_rank_pattern",
        "lora_layers",
        "lora_exclude_modules",
        "lora_target_parameters",
        "trained_tokens",
        "adapter_cast",
        "virtual_tokens",
        "fp16",
        "bf16",
        "fp8",
        "product_format",
        "load_dtype",
        "zero_stage",
        "offload_optimizer",
        "offload_parameters",
        "optimizer",
        "optimizer_arguments",
        "weight_decay",
        "activation_checkpointing",
        "checkpointing_reentrant",
        "attention_implementation",
        "experts_implementation",
        "router_logits",
        "fused_loss",
        "loss_type",
        "packing",
        "micro_batch_size",
        "eval_micro_batch_size",
        "evaluation_keeps_logits",
        "evaluation_generates",
        "label_smoothing",
        "padding_free",
        "checkpointing_offload",
        "activation_offloading",
        "gradient_accumulation_steps",
        "sequence_length",
        "target_length",
        "padding",
        "world_size",
        "parallelism",
        "use_cache",
        "max_grad_norm",
        "objective",
        "loop",
        "prepared_for_kbit",
    )
)
"""Facts whose several values give several jobs."""
