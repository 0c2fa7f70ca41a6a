"""ms-swift: `swift sft|pt|rlhf --flags`, or the same keys in YAML or JSON.

ms-swift 4.5.2 and the state after it: swift/arguments/**, swift/trainers/{arguments,mixin}.py, swift/pipelines/train,
swift/rlhf_trainers; 3.12.6: swift/llm/argument; 2.6.1: swift/llm/utils/argument.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from vramlint.facts import FactValue
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.frameworks.ms_swift_parts import (
    attention,
    checkpoint_dtype,
    command_of,
    environment_facts,
    first_given,
    flattened,
    is_alone,
    processes,
    say_rows,
    targets,
)
from vramlint.surfaces.frameworks.ms_swift_presets import DEEPSPEED, FSDP, OLD_NAMES, preset_table
from vramlint.surfaces.frameworks.multimodal import freeze_parts
from vramlint.surfaces.frameworks.trainer_rows import trainer_rows
from vramlint.surfaces.launch.framework_programs import PROGRAM
from vramlint.surfaces.models import FROZEN_BY_HAND
from vramlint.values import Plain, Scalar, Table

NAME, MEGATRON = "ms-swift", "ms-swift-megatron"

_ROWS = (
    Row("model", "model", "text"),
    Row("model_id_or_path", "model", "text"),
    Row("batch_size", "micro_batch_size", "count"),
    Row("eval_batch_size", "eval_micro_batch_size", "count"),
    Row("padding_free", "padding_free", "flag"),
    Row("packing", "packing", "flag"),
    Row("quant_bits", "quantization_bits", "count"),
    Row("sequence_parallel_size", "context_parallel", "count"),
    Row("deepspeed_autotp_size", "tensor_parallel", "count"),
    Row("experts_impl", "experts_implementation", "text"),
    Row("device_map", "device_map", "device-map"),
    Row("ref_model", "reference_model", "text"),
    *trainer_rows(("fsdp", "gradient_accumulation_steps", "generation_max_length")),
)

_SEQUENCES = "sequence_parallel_size"

_ADAPTERS = (
    Row("lora_rank", "lora_r", "count"),
    Row("lora_alpha", "lora_alpha", "number"),
    Row("lora_dropout", "lora_dropout", "number"),
    Row("lora_dropout_p", "lora_dropout", "number"),
    Row("use_dora", "use_dora", "flag"),
    Row("use_rslora", "use_rslora", "flag"),
)
_SAMPLES = (
    Row("max_completion_length", "completion_length", "bound"),
    Row("num_generations", "generations", "count"),
)
"""Keys that say something only of runs with adapters, and of those that generate."""
_TUNERS: Mapping[Plain, FactValue] = MappingProxyType({"longlora": "lora", "lora_llm": "lora", "qlora": "lora"})
_TASKS = {"seq_cls": "seq-cls", "embedding": "embedding", "reranker": "reranker", "generative_reranker": "reranker"}
_OBJECTIVES: Mapping[Plain, FactValue] = MappingProxyType({"rm": "reward"})
_SAMPLING = ("grpo", "gkd", "ppo")
"""Objectives that generate what they train on."""
_DTYPES: Mapping[Plain, FactValue] = MappingProxyType(
    {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "auto": None, "none": None}
)
_WITH_REFERENCE = ("dpo", "kto", "ppo", "grpo")
_KERNEL_METHODS = frozenset(("hqq", "eetq", "quanto", "fp8"))
_WEIGHING = frozenset(("react", "hermes", "qwen", "agentflan", "alpha_umi"))
"""Values of `loss_scale` with other weights than 0 and 1 (swift/loss_scale/config)."""
_STEPS = 16
"""Samples per optimizer step that ms-swift aims at where no accumulation is given (trainers/arguments.py)."""
_FOUR = 4


def _complete(config: Config) -> None:
    config.derive("loop", "trainer", "ms-swift trains with the Trainer of transformers")
    environment_facts(config)
    if not any(map(config.given, ("model", "model_id_or_path"))):
        config.say("model", "model_type", "text")  # until 3.0 the type has a checkpoint of its own
    _objective(config)
    _tuning(config)
    _dtypes(config)
    _quantization(config)
    _lengths(config)
    _sharding(config)
    _step(config)
    _loss(config)
    _accumulation(config)
    _generation(config)


_FREEZING = ("freeze_parameters_ratio", "freeze_parameters", "freeze_parameters_regex")
"""Keys that freeze parameters where no adapter is trained; in 2.x the second is the share."""


def _objective(config: Config) -> None:
    command = command_of(config)
    task = config.text("task_type")
    if config.given("rlhf_type") or command == "rlhf":
        config.translate("objective", "rlhf_type", _OBJECTIVES)
    elif task in _TASKS:
        config.state("objective", _TASKS[task], "task_type")
    elif command == "pt":
        config.state("objective", "pretrain", PROGRAM)
    elif command == "sft":
        config.state("objective", "sft", PROGRAM)
    config.assume("objective", "sft", "the command line says the objective; sft is assumed")


def _said_objective(config: Config) -> FactValue:
    fact = config.fact("objective")
    return fact.value if fact else None


def _tuning(config: Config) -> None:
    key = first_given(config, "tuner_type", "train_type", "sft_type")
    config.translate("tuning", key, _TUNERS)
    if not config.given(key):
        config.state("tuning", "lora", key)  # 3.0 to 3.4 leave it open in one class and say lora in another
    fact = config.fact("tuning")
    if fact is None or fact.value != "full":
        say_rows(config, _ADAPTERS)
        targets(config)
    freeze_parts(config, "model", towers="freeze_vit", projectors="freeze_aligner", language="freeze_llm")
    if fact is None or fact.value != "full":
        return
    frozen = next((key for key in _FREEZING if config.on(key) or config.words(key)), "")
    if frozen:
        reason = f"{FROZEN_BY_HAND}: by their share or name"
        config.derive("tuning", "full", reason, frozen, over=True)
    elif config.on("lisa_activated_layers"):
        reason = f"{FROZEN_BY_HAND}: LISA trains some layers at a time"
        config.derive("tuning", "full", reason, "lisa_activated_layers", over=True)


def _dtypes(config: Config) -> None:
    """`torch_dtype` loads the weights, and turns autocast on (base_args/model_args.py, _init_mixed_precision)."""
    key = first_given(config, "torch_dtype", "dtype")
    config.translate("load_dtype", key, _DTYPES)
    fact = config.fact("load_dtype")
    if fact is None:
        config.state("load_dtype", "auto", key)
    dtype, certain = checkpoint_dtype(config)
    reason = f"autocast to the checkpoint's dtype, {dtype}"
    if fact is not None and isinstance(fact.value, str) and fact.value != "auto":
        dtype, certain, reason = fact.value, True, f"{key} is {fact.value}"
    for flag, holds in (("bf16", dtype == "bfloat16"), ("fp16", dtype != "bfloat16")):
        if certain:
            config.derive(flag, holds, reason, key)
        else:
            config.assume(flag, holds, f"{reason} in nearly all")


def _quantization(config: Config) -> None:
    key = first_given(config, "quant_bits", "quantization_bit")
    if key == "quantization_bit" and config.integer(key):
        config.say("quantization_bits", key, "count")
    bits, method = config.integer(key), config.text("quant_method") or "bnb"
    if not bits:
        return
    config.state("quantization_method", method, "quant_method", key)
    if method in _KERNEL_METHODS:
        config.state("quantization_type", method, "quant_method")
    elif bits == _FOUR:
        config.say("quantization_type", "bnb_4bit_quant_type", "text")
        config.say("double_quantization", "bnb_4bit_use_double_quant", "flag")
        config.say("quantization_compute_dtype", "bnb_4bit_compute_dtype", "dtype")
        config.say("quantization_storage_dtype", "bnb_4bit_quant_storage", "dtype")
        config.state("quantization_type", "nf4", "bnb_4bit_quant_type")
        config.state("double_quantization", True, "bnb_4bit_use_double_quant")
        loaded = config.fact("load_dtype")
        wide = loaded is not None and loaded.value in ("float16", "float32")
        config.state("quantization_compute_dtype", "float32" if wide else "bfloat16", "bnb_4bit_compute_dtype")


def _lengths(config: Config) -> None:
    """Where a run generates what it trains on, `max_length` bounds the prompt (docs, Command-line-parameters.md)."""
    if _said_objective(config) in _SAMPLING:
        if not config.say("prompt_length", "max_length", "bound"):
            config.unknown("prompt_length", "max_length is the model's own maximum by default", "max_length")
        return
    packs = config.on("packing")
    key = "packing_length" if packs and config.given("packing_length") else "max_length"
    if not config.say("sequence_length", key, "bound"):
        default = config.default("max_length")
        if default is not None:
            config.state("sequence_length", default, "max_length")
        else:
            config.unknown("sequence_length", "max_length is the model's own maximum by default", "max_length")
    if packs:
        config.derive("padding_free", True, "packed rows lie end to end", "packing", over=True)


def _sharding(config: Config) -> None:
    _deepspeed(config)
    name = config.text("fsdp")
    preset = FSDP.get(name)
    if preset is not None:
        options, table = preset
        config.state("fsdp", options, "fsdp")
        config.draft.tables.append(("fsdp", preset_table(table, config.place("fsdp"))))
        config.derive("activation_checkpointing", True, f"{name} checkpoints activations itself", "fsdp", over=True)
        config.state("fsdp_version", 2, "fsdp")
    elif name:
        config.state("fsdp", "full_shard auto_wrap", "fsdp")
        config.link("fsdp", "fsdp")
    if (config.integer(_SEQUENCES) or 1) > 1:
        config.derive("sequence_sharing", "swift", "ms-swift's own Ulysses (swift/sequence_parallel)", _SEQUENCES)
    visible = config.around.get("world_size")
    several = visible is None or (visible.key == "CUDA_VISIBLE_DEVICES" and (visible.value or 1) != 1)
    if config.command and is_alone(config) and processes(config) == 1 and several:
        reason = "one process spreads the model over the GPUs that it sees"
        config.derive("device_map", "auto", reason)
        if visible is not None:
            config.derive("parallelism", "device_map", reason)


def _deepspeed(config: Config) -> None:
    value = config.value("deepspeed")
    name = value.value if isinstance(value, Scalar) else None
    name = OLD_NAMES.get(name, name) if isinstance(name, str) else None
    preset = DEEPSPEED.get(name) if name is not None else None
    if name is not None and preset is not None:
        config.state("zero_stage", int(name.removesuffix("_offload")[-1]), "deepspeed")
        config.draft.tables.append(("deepspeed", preset_table(preset, config.place("deepspeed"))))
    elif value is not None:
        config.link("deepspeed", "deepspeed")


def _step(config: Config) -> None:
    attention(config)
    if not config.given("gradient_checkpointing") and "activation_checkpointing" not in config.draft.facts:
        config.state("activation_checkpointing", True, "gradient_checkpointing")
    shards = config.given("deepspeed") or config.given("fsdp")
    count = processes(config)
    if count is not None or shards:
        config.derive("checkpointing_reentrant", shards or count == 1, "ms-swift re-enters unless DDP runs")
    if config.on("use_galore"):
        name = "q-galore" if config.on("galore_quantization") else "galore_adamw"
        config.state("optimizer", name, "use_galore", over=True)
        config.state("optimizer_rank", config.integer("galore_rank"), "galore_rank")
    plugin = config.text("optimizer")
    if plugin and plugin not in ("lorap", "multimodal", "default"):
        config.state("optimizer", plugin, "optimizer", over=True)
    if config.text("tuner_backend") == "unsloth":
        config.state("unsloth", True, "tuner_backend")
        config.derive("activation_checkpointing", True, "Unsloth checkpoints by itself", "tuner_backend", over=True)
        config.derive("checkpointing_offload", True, "Unsloth keeps checkpoints in host memory", "tuner_backend")
        config.unknown("attention_implementation", "Unsloth puts kernels of its own in the place of the model's")


def _loss(config: Config) -> None:
    """What is made of the logits; weights of single tokens need all of them (trainers/seq2seq_trainer.py)."""
    if config.on("enable_dft_loss"):
        config.state("loss_type", "dft", "enable_dft_loss")
    elif config.on("enable_channel_loss"):
        config.state("loss_type", "channel", "enable_channel_loss")
    else:
        config.say("loss_type", "loss_type", "text")
    if (config.integer(_SEQUENCES) or 1) > 1 and config.on("use_liger_kernel"):
        reason = "the loss of shared sequences is ms-swift's own, so Liger's has no effect"
        config.derive("liger_fused_head", False, reason, _SEQUENCES)
        config.derive("full_logits", True, reason, _SEQUENCES)
    weighs = not _WEIGHING.isdisjoint(config.text("loss_scale").split("+"))
    if weighs and config.on("use_liger_kernel") and _said_objective(config) in (None, "sft", "pretrain"):
        reason = "loss_scale weighs tokens, so Liger's loss has no effect"
        config.derive("liger_fused_head", False, reason, "loss_scale")
        config.derive("full_logits", True, reason, "loss_scale")


def _accumulation(config: Config) -> None:
    """16 samples per step over all processes where nothing is given; one micro batch for GRPO (rlhf_args.py)."""
    if config.say("gradient_accumulation_steps", "gradient_accumulation_steps", "count"):
        return
    if _said_objective(config) == "grpo":
        config.derive("gradient_accumulation_steps", 1, "GRPO accumulates nothing unless asked to")
        return
    count, micro = processes(config), _micro(config)
    if count is None or not micro:
        reason = f"{_STEPS} / (per_device_train_batch_size · processes), rounded up"
        config.unknown("gradient_accumulation_steps", reason, "gradient_accumulation_steps")
        return
    steps = max(1, math.ceil(_STEPS / micro / count))
    reason = f"{_STEPS} / ({micro} · {count} processes), rounded up"
    config.derive("gradient_accumulation_steps", steps, reason)


def _micro(config: Config) -> int | None:
    return config.integer(first_given(config, "per_device_train_batch_size", "batch_size"))


def _generation(config: Config) -> None:
    objective = _said_objective(config)
    if objective in _SAMPLING:
        say_rows(config, _SAMPLES)
        config.state("inference_engine", "vllm" if config.on("use_vllm") else "none", "use_vllm")
        if config.on("use_vllm") and config.text("vllm_mode") != "server":
            memory = config.plain("vllm_gpu_memory_utilization")
            config.state("inference_memory_fraction", memory, "vllm_gpu_memory_utilization")
            shared = config.integer("vllm_tensor_parallel_size")
            config.state("inference_tensor_parallel", shared, "vllm_tensor_parallel_size")
    if config.given("rlhf_type") or objective in _WITH_REFERENCE:
        default = {"grpo": 0.04, "gkd": 0.5, "simpo": 2.0}.get(str(objective), 0.1)
        given = config.plain("beta")
        if objective != "reward" and not config.say("kl_coefficient", "beta", "number"):
            config.state("kl_coefficient", default if given is None else given, "beta")
        if objective == "grpo" and given == 0:
            config.derive("reference_model", "none", "beta is 0, so that nothing is compared", "beta")


def _form(table: Table) -> tuple[str, Table]:
    return flattened(table, NAME, MEGATRON)


def _tuned(value: FactValue) -> Mapping[str, Plain] | None:
    return {"tuner_type": value} if value in ("full", "lora") and isinstance(value, str) else None


def _zero_stage(value: FactValue) -> Mapping[str, Plain] | None:
    return {"deepspeed": f"zero{value}"} if value in (0, 1, 2, 3) else None


def _loaded(value: FactValue) -> Mapping[str, Plain] | None:
    return {"torch_dtype": value} if isinstance(value, str) else None


def _length(value: FactValue) -> Mapping[str, Plain] | None:
    return {"max_length": value} if isinstance(value, int) else None


def _accumulated(value: FactValue) -> Mapping[str, Plain] | None:
    return {"gradient_accumulation_steps": value} if isinstance(value, int) else None


FRAMEWORK = Framework(
    NAME,
    "ms-swift",
    "ms_swift",
    _ROWS,
    _complete,
    loose=False,
    inherits=("Seq2SeqTrainingArguments",),
    form=_form,
    spelled={
        "tuning": _tuned,
        "zero_stage": _zero_stage,
        "load_dtype": _loaded,
        "sequence_length": _length,
        "gradient_accumulation_steps": _accumulated,
        "lora_r": lambda value: {"lora_rank": value} if isinstance(value, int) else None,
    },
)
