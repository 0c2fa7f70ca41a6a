"""The second generation of LLaMA-Factory: `USE_V1=1 llamafactory-cli sft FILE`, a loop of its own with FSDP 2.

src/llamafactory/v1 behind llamafactory 0.9.5: config/*.py, core/{base_trainer,model_engine}.py,
plugins/model_plugins/{peft,quantization}.py, plugins/trainer_plugins.
"""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.facts import FactValue
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.frameworks.frozen_layers import trained_layers
from vramlint.surfaces.launch.framework_programs import PROGRAM
from vramlint.values import Plain

_ROWS = (
    Row("model", "model", "text"),
    Row("micro_batch_size", "micro_batch_size", "count"),
    Row("global_batch_size", "global_batch_size", "count"),
    Row("cutoff_len", "sequence_length", "count"),
    Row("enable_activation_checkpointing", "activation_checkpointing", "flag"),
    Row("flash_attn", "attention_implementation", "text"),
    Row("max_grad_norm", "max_grad_norm", "number"),
    Row("cp_size", "context_parallel", "count"),
    Row("dist_config.ep_size", "expert_parallel", "count"),
    Row("trust_remote_code", "trust_remote_code", "flag"),
)
_OBJECTIVES = {"sft": "sft", "dpo": "dpo", "rm": "reward"}
_FSDP = ("fsdp2", "fsdpturbo")
_LORA: tuple[tuple[str, str, FactValue], ...] = (
    ("r", "lora_r", 8),
    ("lora_alpha", "lora_alpha", 16),
    ("lora_dropout", "lora_dropout", 0.05),
    ("use_dora", "use_dora", False),
    ("use_rslora", "use_rslora", False),
)
"""Keys of `peft_config`, their facts and defaults (plugins/model_plugins/peft.py, LoraParams)."""


def _complete(config: Config) -> None:
    config.derive("loop", "plain", "LLaMA-Factory's second generation has a loop of its own")
    command = config.text(PROGRAM).rpartition(" ")[2]
    if command in _OBJECTIVES:
        config.state("objective", _OBJECTIVES[command], PROGRAM)
    config.assume("objective", "sft", "the command line says the objective; sft is assumed")
    _tuning(config)
    _quantization(config)
    _sharding(config)
    _optimizer(config)
    config.derive("checkpointing_reentrant", False, "LLaMA-Factory checkpoints without re-entering")
    kernels = config.text("kernel_config.name")
    config.state("fused_loss", "liger" in kernels, "kernel_config.name")
    strategy = config.text("batching_strategy")
    config.state("padding_free", strategy.endswith("padding_free"), "batching_strategy")
    config.derive("packing", False, "every row is one sample")
    _batches(config)
    _sequences(config)


def _tuning(config: Config) -> None:
    name = config.text("peft_config.name")
    config.state("tuning", name or "full", "peft_config.name")
    if config.given("peft_config.export_dir"):
        config.state("run_kind", "inference", "peft_config.export_dir", over=True)
    if not name:
        config.derive("load_dtype", "float32", "all weights are made float32 for training in full")
        return
    config.derive("load_dtype", "auto", "the weights are loaded in the checkpoint's dtype")
    if name == "freeze":
        count = config.integer("peft_config.freeze_trainable_layers") or 2
        pattern = trained_layers(config.text("model"), count)
        if pattern:
            config.state("frozen_parameters", (pattern,), "peft_config.freeze_trainable_layers")
        if config.plain("peft_config.cast_trainable_params_to_fp32") is not False:
            config.derive(
                "trainable_dtype", "float32", "what trains is cast", "peft_config.cast_trainable_params_to_fp32"
            )
    if name == "lora":
        for key, fact, default in _LORA:
            given = config.plain(f"peft_config.{key}")
            config.state(fact, default if given is None else given, f"peft_config.{key}")
        targets = config.words("peft_config.target_modules")
        said = "all-linear" if targets in ((), ("all",)) else targets
        config.state("lora_target_modules", said, "peft_config.target_modules")
        saved = config.words("peft_config.modules_to_save")
        if saved:
            config.state("lora_modules_to_save", saved, "peft_config.modules_to_save")


def _quantization(config: Config) -> None:
    if not config.given("quant_config"):
        return
    bits = config.integer("quant_config.quantization_bit")
    if bits is None and config.text("quant_config.name") == "auto":
        return
    config.state("quantization_bits", bits or 4, "quant_config.quantization_bit", "quant_config.name")
    config.state("quantization_method", "bnb", "quant_config.name")
    if (bits or 4) == 4:
        kind, double = config.text("quant_config.quantization_type"), config.plain("quant_config.double_quantization")
        dtype = config.text("quant_config.compute_dtype") or "float16"
        config.state("quantization_type", kind or "nf4", "quant_config.quantization_type")
        config.state("double_quantization", double is not False, "quant_config.double_quantization")
        config.state("quantization_compute_dtype", dtype, "quant_config.compute_dtype")
        config.state("quantization_storage_dtype", dtype, "quant_config.compute_dtype")


def _sharding(config: Config) -> None:
    name = config.text("dist_config.name")
    narrow = config.plain("bf16") is not False
    if name in _FSDP:
        config.state("fsdp", "full_shard auto_wrap", "dist_config.name")
        config.state("fsdp_version", 2, "dist_config.name")
        config.state("parallelism", "fsdp", "dist_config.name")
        config.state("bf16", narrow, "bf16")
    elif name == "deepspeed":
        config.state("bf16", narrow, "bf16")
        config.link("deepspeed", "dist_config.config_file")
    else:
        config.derive("bf16", False, "only FSDP and DeepSpeed compute in bfloat16", "bf16")
    config.derive("fp16", False, "there is no fp16")


def _optimizer(config: Config) -> None:
    name = config.text("optim_config.name")
    config.state("optimizer", name or "adamw_torch", "optim_config.name")


def _batches(config: Config) -> None:
    """`global_batch_size` is by default what all GPUs take at once, so that nothing accumulates."""
    if not config.given("global_batch_size"):
        config.derive("gradient_accumulation_steps", 1, "the global batch is what the GPUs take at once")
    else:
        config.unknown("gradient_accumulation_steps", "global_batch_size / (micro_batch_size · GPUs)")


def _sequences(config: Config) -> None:
    """Its Ulysses is verl's, for FlashAttention under FSDP; of several padded rows it gathers the mask, too."""
    flash = config.text("flash_attn") == "flash_attention_2" and config.text("dist_config.name") in _FSDP
    objective = config.fact("objective")
    plain = config.text("batching_strategy").endswith("padding_free") or (config.integer("micro_batch_size") or 1) == 1
    sft = objective is not None and objective.value == "sft"
    if (config.integer("cp_size") or 1) > 1 and flash and plain and sft:
        reason = "LLaMA-Factory's Ulysses (v1/plugins/model_plugins/parallelization)"
        config.derive("sequence_sharing", "verl", reason, "cp_size")


def _lora_rank(value: FactValue) -> Mapping[str, Plain] | None:
    return {"peft_config.r": value} if isinstance(value, int) else None


FRAMEWORK = Framework(
    "llama-factory-v1",
    "LLaMA-Factory",
    "llamafactory",
    _ROWS,
    _complete,
    loose=False,
    spelled={"lora_r": _lora_rank},
)
