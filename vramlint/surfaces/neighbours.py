"""Beside which key of a table a new one is written: people look for `bf16` beside `fp16`."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.values import Entry, Scalar

_GROUPS = (
    ("bf16", "fp16", "tf32", "float16", "bfloat16", "precision", "mixed_precision", "dtype", "torch_dtype"),
    ("optimizer", "optim", "optim_args", "lr_scheduler", "lr_scheduler_type", "learning_rate", "lr", "weight_decay"),
    ("load_in_8bit", "load_in_4bit", "quantization_bit", "quantization_method"),
    ("adapter", "lora_r", "lora_rank", "lora_alpha", "lora_dropout", "lora_target_modules", "lora_target"),
    ("attn_implementation", "flash_attention", "flash_attn", "sdp_attention", "xformers_attention", "eager_attention"),
    (
        *("micro_batch_size", "per_device_train_batch_size", "batch_size", "train_batch_size", "global_batch_size"),
        *("gradient_accumulation_steps", "gradient_accumulation_iters", "gradient_checkpointing"),
        *("gradient_checkpointing_kwargs", "activation_checkpointing", "enable_activation_checkpointing"),
        *("eval_batch_size", "per_device_eval_batch_size"),
    ),
    ("per_device_eval_batch_size", "eval_batch_size", "eval_accumulation_steps", "eval_strategy", "eval_steps"),
    ("stage", "offload_optimizer", "offload_param"),
    ("enable_activation_checkpointing", "enable_activation_offloading", "activation_offloading"),
    ("deepspeed", "fsdp", "fsdp_config"),
)
"""Keys that are written together."""


def neighbours(key: str, entries: Sequence[Entry]) -> list[Entry]:
    """The entries behind which `key` may be written, the likeliest first: of its group, of its kind, the last ones."""
    groups = [group for group in _GROUPS if key in group]
    word = key.partition("_")[0]

    def kinship(index: int) -> tuple[int, int]:
        other, value = entries[index].key, entries[index].value
        if isinstance(value, Scalar) and value.value is None:
            return 3, -index  # what may be a heading
        if any(other in group for group in groups):
            return 0, -index
        return (1 if other.partition("_")[0] == word and "_" in other else 2), -index

    return [entries[index] for index in sorted(range(len(entries)), key=kinship)]
