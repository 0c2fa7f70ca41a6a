"""Which vocabulary a data file is written in, by its keys."""

from __future__ import annotations

from vramlint.values import Scalar, Table

_DEEPSPEED = frozenset(
    (
        "zero_optimization",
        "train_micro_batch_size_per_gpu",
        "train_batch_size",
        "gradient_clipping",
        "steps_per_print",
        "wall_clock_breakdown",
        "zero_allow_untested_optimizer",
        "zero_force_ds_cpu_optimizer",
        "prescale_gradients",
        "communication_data_type",
        "fp16",
        "bf16",
        "optimizer",
        "scheduler",
    )
)
_DEEPSPEED_OWN = _DEEPSPEED - {"fp16", "bf16", "optimizer", "scheduler", "train_batch_size", "gradient_clipping"}

_MODEL_SIZES = frozenset(("hidden_size", "n_embd", "d_model", "num_hidden_layers", "n_layer", "num_layers", "n_layers"))

_TRAINING_ARGUMENTS = frozenset(
    (
        "per_device_train_batch_size",
        "per_device_eval_batch_size",
        "gradient_accumulation_steps",
        "gradient_checkpointing",
        "num_train_epochs",
        "lr_scheduler_type",
        "learning_rate",
        "output_dir",
        "warmup_ratio",
        "warmup_steps",
        "save_steps",
        "save_strategy",
        "logging_steps",
        "max_steps",
        "optim",
        "weight_decay",
        "adam_beta2",
        "bf16",
        "fp16",
        "report_to",
    )
)

_ACCELERATE = frozenset(
    (
        "compute_environment",
        "num_processes",
        "num_machines",
        "machine_rank",
        "mixed_precision",
        "deepspeed_config",
        "fsdp_config",
        "main_training_function",
        "use_cpu",
    )
)
"""Keys that stand beside `distributed_type`, which accelerate wants in every file (commands/config/config_args.py)."""

_OTHER_VOCABULARIES = frozenset(
    (
        "finetuning_type",  # LLaMA-Factory
        "cutoff_len",
        "base_model",  # Axolotl
        "train_type",  # ms-swift
        "tuner_type",
        "_component_",  # torchtune
    )
)
"""Keys that only other frameworks use, whose files share key names with TrainingArguments."""


def kind_of_table(path: str, table: Table) -> str | None:
    """deepspeed-json, accelerate-config, training-args-json, training-args-yaml, model-config, or None for others."""
    keys = {entry.key for entry in table}
    if "distributed_type" in keys and keys & _ACCELERATE:
        return "accelerate-config"
    yaml = path.lower().endswith((".yaml", ".yml"))
    if keys & _OTHER_VOCABULARIES:
        return None
    if _is_model_config(table, keys):
        return "model-config"
    if _is_training_arguments(keys):
        return "training-args-yaml" if yaml else "training-args-json"
    if not yaml and _is_deepspeed(table, keys):
        return "deepspeed-json"
    return None


def _is_model_config(table: Table, keys: set[str]) -> bool:
    named = isinstance(table.get("model_type"), Scalar) or "architectures" in keys
    return named and bool(keys & _MODEL_SIZES or "text_config" in keys)


def _is_training_arguments(keys: set[str]) -> bool:
    if "per_device_train_batch_size" in keys:
        return True
    return "output_dir" in keys and len(keys & _TRAINING_ARGUMENTS) >= 4


def _is_deepspeed(table: Table, keys: set[str]) -> bool:
    if {key.replace("-", "_") for key in keys} & _MODEL_SIZES:  # gpt-neox and its kin mix DeepSpeed's keys with a model
        return False
    if isinstance(table.get("zero_optimization"), Table) or "train_micro_batch_size_per_gpu" in keys:
        return True
    if len(keys & _DEEPSPEED) >= 2 and keys & _DEEPSPEED_OWN:
        return True
    sections = [table.get(name) for name in ("fp16", "bf16")]
    switched = any(isinstance(section, Table) and section.entry("enabled") for section in sections)
    return switched and len(keys & _DEEPSPEED) >= 2
