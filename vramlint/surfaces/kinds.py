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

_FSDP = frozenset(
    (
        "transformer_layer_cls_to_wrap",
        "fsdp_transformer_layer_cls_to_wrap",
        "auto_wrap_policy",
        "fsdp_auto_wrap_policy",
        "backward_prefetch",
        "fsdp_backward_prefetch",
        "reshard_after_forward",
        "fsdp_reshard_after_forward",
        "fsdp_sharding_strategy",
        "fsdp_offload_params",
        "fsdp_state_dict_type",
        "cpu_ram_efficient_loading",
        "fsdp_cpu_ram_efficient_loading",
        "limit_all_gathers",
        "min_num_params",
        "fsdp_min_num_params",
        "sync_module_states",
        "xla_fsdp_settings",
    )
)
"""Keys of the file that `--fsdp_config` names (transformers 4.36 to 5.23, training_args.py)."""

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
    """One of `catalog.frameworks.KINDS` that is no framework's, or None."""
    keys = {entry.key for entry in table}
    if "distributed_type" in keys and keys & _ACCELERATE:
        return "accelerate-config"
    if _is_fsdp(table, keys):
        return "fsdp-json"
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


def _is_fsdp(table: Table, keys: set[str]) -> bool:
    """The options that `--fsdp_config` reads from a file; ms-swift's presets hold them beside `fsdp` itself."""
    said = {key for key in keys if not key.startswith("_")}  # presets explain themselves in keys of this kind
    if isinstance(table.get("fsdp_config"), Table):
        return said <= {"fsdp", "fsdp_config"}
    return bool(said & _FSDP) and all(key in _FSDP or key.startswith("fsdp_") or key in _FSDP_SHARED for key in said)


_FSDP_SHARED = frozenset(
    (
        "version",
        "activation_checkpointing",
        "activation_cpu_offload",
        "state_dict_type",
        "use_orig_params",
        "forward_prefetch",
        "offload_params",
        "cpu_offload",
        "sharding_strategy",
        "mixed_precision_policy",
        "xla",
        "xla_fsdp_grad_ckpt",
        "xla_fsdp_v2",
    )
)
"""Options of FSDP whose names say nothing by themselves."""


_SIZES = (
    ("hidden_size", "hidden_dim", "n_embd", "d_model"),
    ("num_hidden_layers", "num_layers", "n_layer", "n_layers"),
    ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    ("vocab_size", "vocab_size_or_config_json_file", "intermediate_size", "ffn_embed_dim"),
)


def model_sizes(table: Table) -> tuple[str, ...]:
    """The keys of a model's width, depth and heads, at the top or in a table of their own; none if one lacks."""
    for part in (table, *(entry.value for entry in table if entry.key.endswith("config"))):
        if isinstance(part, Table):
            keys = {entry.key for entry in part}
            found = tuple([name for names in _SIZES for name in names if name in keys])
            if all(keys.intersection(names) for names in _SIZES):
                return found
    return ()


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
