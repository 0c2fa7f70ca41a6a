"""What the keys of people's own training configurations usually mean, wherever in a file they stand."""

from __future__ import annotations

from functools import cache

from msgspec import Struct

_LORA = frozenset(("lora", "qlora", "peft", "adapter", "lora_config", "peft_config", "lora_args", "lora_parameters"))
_MODEL = frozenset(
    ("model", "base_model", "llm", "policy", "backbone", "model_config", "model_args", "model_arguments")
)
_QUANTIZATION = frozenset(
    ("quantization", "quant", "bnb", "bitsandbytes", "quantization_config", "bnb_config", "quant_config")
)
_OPTIMIZER = frozenset(("optimizer", "optim"))
_EVALUATION = frozenset(("eval", "evaluation", "validation", "eval_args"))

ELSEWHERE = frozenset(
    (
        "inference",
        "generation",
        "generate",
        "serving",
        "serve",
        "server",
        "deployment",
        "export",
        "judge",
        "reward_model",
        "teacher",
        "ref_model",
        "reference_model",
        "vllm",
        "api",
        "hub",
        "tokenizer_config",
        "wandb",
        "mlflow",
        "tensorboard",
        "tracking",
    )
)
"""Sections that speak of another model than the one that is trained, of another time, or of what a run is called."""


class Usual(Struct, frozen=True):
    """One meaning and the keys that usually have it."""

    fact: str
    converter: str
    """The name of a row of `convert.CONVERTERS`."""
    names: tuple[str, ...]
    """Last parts of keys, the most telling first."""
    sections: frozenset[str] = frozenset()
    """Tables in which the names mean it; none: in every one."""


USUAL: tuple[Usual, ...] = (
    Usual(
        "model",
        "text",
        (
            "model_name_or_path",
            "base_model_name_or_path",
            "pretrained_model_name_or_path",
            "base_model_name",
            "base_model_id",
            "base_model",
            "model_name",
            "model_id",
            "model_path",
            "hf_model_id",
            "model_name_or_id",
            "model_path_or_name",
            "pretrained_model",
            "model",
        ),
    ),
    Usual(
        "model", "text", ("name_or_path", "name", "id", "path", "base", "repo_id", "pretrained", "checkpoint"), _MODEL
    ),
    Usual(
        "micro_batch_size",
        "count",
        (
            "per_device_train_batch_size",
            "per_device_batch_size",
            "per_gpu_train_batch_size",
            "per_gpu_batch_size",
            "micro_batch_size",
            "micro_batch_size_per_gpu",
            "device_batch_size",
            "batch_size_per_device",
            "batch_size_per_gpu",
            "train_batch_size",
            "batch_size",
        ),
    ),
    Usual("eval_micro_batch_size", "count", ("per_device_eval_batch_size", "eval_batch_size", "val_batch_size")),
    Usual("eval_micro_batch_size", "count", ("batch_size",), _EVALUATION),
    Usual(
        "gradient_accumulation_steps",
        "count",
        (
            "gradient_accumulation_steps",
            "gradient_accumulation",
            "grad_accumulation_steps",
            "grad_accum_steps",
            "grad_accum",
            "accumulation_steps",
            "accumulate_grad_batches",
        ),
    ),
    Usual(
        "sequence_length",
        "count",
        (
            "max_seq_length",
            "max_seq_len",
            "max_sequence_length",
            "sequence_length",
            "seq_length",
            "sequence_len",
            "seq_len",
            "cutoff_len",
            "model_max_length",
            "context_length",
            "block_size",
            "max_length",
            "max_len",
        ),
    ),
    Usual("optimizer", "name", ("optim", "optimizer", "optimizer_name", "optimizer_type")),
    Usual("optimizer", "name", ("type", "name"), _OPTIMIZER),
    Usual(
        "activation_checkpointing",
        "switch",
        (
            "gradient_checkpointing",
            "use_gradient_checkpointing",
            "enable_gradient_checkpointing",
            "activation_checkpointing",
            "grad_checkpointing",
        ),
    ),
    Usual("attention_implementation", "text", ("attn_implementation", "attention_implementation", "attn_impl")),
    Usual(
        "attention_implementation",
        "flash",
        ("use_flash_attention_2", "use_flash_attention", "use_flash_attn", "flash_attention", "flash_attn"),
    ),
    Usual("load_dtype", "dtype", ("torch_dtype", "model_dtype", "dtype")),
    Usual("bf16", "flag", ("bf16",)),
    Usual("fp16", "flag", ("fp16",)),
    Usual("quantization_bits", "four-bit", ("load_in_4bit", "use_4bit")),
    Usual("quantization_bits", "eight-bit", ("load_in_8bit", "use_8bit")),
    Usual("quantization_bits", "count", ("quantization_bits", "quant_bits")),
    Usual("quantization_bits", "count", ("bits",), _QUANTIZATION),
    Usual("quantization_type", "text", ("bnb_4bit_quant_type",)),
    Usual("quantization_type", "text", ("quant_type", "type"), _QUANTIZATION),
    Usual(
        "double_quantization",
        "flag",
        ("bnb_4bit_use_double_quant", "use_double_quant", "double_quant", "use_nested_quant"),
    ),
    Usual("quantization_compute_dtype", "dtype", ("bnb_4bit_compute_dtype",)),
    Usual("quantization_compute_dtype", "dtype", ("compute_dtype",), _QUANTIZATION),
    Usual("lora_r", "count", ("lora_r", "lora_rank")),
    Usual("lora_r", "count", ("r", "rank"), _LORA),
    Usual("lora_alpha", "number", ("lora_alpha",)),
    Usual("lora_alpha", "number", ("alpha",), _LORA),
    Usual("lora_dropout", "number", ("lora_dropout",)),
    Usual("lora_dropout", "number", ("dropout",), _LORA),
    Usual("lora_target_modules", "names", ("lora_target_modules", "target_modules", "lora_targets")),
    Usual("lora_modules_to_save", "names", ("lora_modules_to_save", "modules_to_save")),
    Usual("use_dora", "flag", ("use_dora",)),
    Usual("use_rslora", "flag", ("use_rslora",)),
    Usual("packing", "flag", ("packing", "sample_packing")),
    Usual("max_grad_norm", "number", ("max_grad_norm", "gradient_clipping", "gradient_clip_val", "grad_clip")),
    Usual("weight_decay", "number", ("weight_decay",)),
    Usual("fused_loss", "flag", ("use_liger_kernel", "use_liger", "enable_liger_kernel")),
    Usual("torch_compile", "flag", ("torch_compile",)),
    Usual("world_size", "count", ("num_gpus", "n_gpus", "num_gpu", "gpu_count", "num_processes")),
    Usual("nodes", "count", ("num_nodes", "n_nodes", "nnodes")),
    Usual("gpus_per_node", "count", ("gpus_per_node", "n_gpus_per_node", "num_gpus_per_node")),
    Usual(
        "global_batch_size",
        "count",
        ("effective_batch_size", "global_batch_size", "total_batch_size", "total_train_batch_size"),
    ),
    Usual("prompt_length", "count", ("max_prompt_length",)),
    Usual("completion_length", "count", ("max_completion_length",)),
    Usual("generations", "count", ("num_generations", "generations_per_prompt")),
    Usual("kl_coefficient", "number", ("beta", "kl_coef", "kl_coefficient"), frozenset(("dpo", "grpo", "ppo", "kto"))),
)
"""Every meaning, those read first that win."""

SIZES: tuple[Usual, ...] = (
    Usual("layers", "count", ("num_hidden_layers", "n_layers", "n_layer", "num_layers")),
    Usual("attention_heads", "count", ("num_attention_heads", "n_heads", "n_head", "num_heads")),
    Usual("key_value_heads", "count", ("num_key_value_heads", "n_kv_heads", "num_kv_heads")),
    Usual("hidden_size", "count", ("hidden_size", "n_embd", "d_model", "embed_dim", "dim")),
    Usual("intermediate_size", "count", ("intermediate_size", "d_ff", "ffn_dim", "ffn_hidden_size")),
    Usual("vocabulary_size", "count", ("vocab_size",)),
)
"""Sizes of a model that a file defines, where it names none."""

SWITCHES: tuple[Usual, ...] = (
    Usual("tuning", "flag", ("use_lora", "use_peft", "enable_lora", "lora")),
    Usual("tuning", "flag", ("enabled", "enable", "use"), _LORA),
)
"""Keys that turn adapters on and off; `use_qlora` means 4 bits too."""

OBJECTIVE = ("training_method", "train_method", "method", "objective", "algorithm", "rl_algorithm", "stage", "trainer")
"""Keys whose value may name what is trained."""

TRAINS = frozenset(
    (
        "learning_rate",
        "lr",
        "num_train_epochs",
        "num_epochs",
        "epochs",
        "max_steps",
        "max_train_steps",
        "warmup_ratio",
        "warmup_steps",
        "lr_scheduler_type",
        "lr_scheduler",
        "gradient_accumulation_steps",
        "per_device_train_batch_size",
    )
)
"""Keys that show that something is trained."""

BY_THE_TRAINER = frozenset(("per_device_train_batch_size", "gradient_accumulation_steps"))
"""Arguments of Hugging Face's Trainer that together show what trains, in a file that leaves the model to another."""

OF_LANGUAGE_MODELS = frozenset(
    (
        "sequence_length",
        "activation_checkpointing",
        "attention_implementation",
        "quantization_bits",
        "lora_r",
        "lora_target_modules",
        "load_dtype",
        "generations",
    )
)
"""Facts that hardly any other training has."""


@cache
def usual_words() -> frozenset[bytes]:
    """The names of keys that may begin to tell such a file."""
    rows = (row for row in USUAL if not row.sections)
    return frozenset(name.encode() for row in rows for name in row.names) | frozenset(map(str.encode, TRAINS))
