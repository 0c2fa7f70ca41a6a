"""The Megatron back end of ms-swift: `megatron sft|pt|rlhf --flags`, or the same keys in YAML.

ms-swift 4.5.2 and the state after it: swift/megatron/arguments/{megatron_args,megatron_base_args,sft_args}.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from vramlint.facts import FactValue
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.frameworks.megatron_engine import ranks_share
from vramlint.surfaces.frameworks.megatron_rows import SPLITS, parallel_facts
from vramlint.surfaces.frameworks.ms_swift_parts import (
    backend_attention,
    checkpoint_dtype,
    command_of,
    environment_facts,
    first_given,
    processes,
    say_rows,
    targets,
)
from vramlint.surfaces.frameworks.multimodal import freeze_parts
from vramlint.surfaces.launch.framework_programs import PROGRAM
from vramlint.values import Plain

_ROWS = (
    Row("model", "model", "text"),
    Row("load", "model", "text"),
    Row("mcore_model", "model", "text"),
    Row("micro_batch_size", "micro_batch_size", "count"),
    Row("global_batch_size", "global_batch_size", "count"),
    Row("packing_length", "sequence_length", "bound"),
    Row("max_length", "sequence_length", "bound"),
    Row("seq_length", "sequence_length", "bound"),
    Row("packing", "packing", "flag"),
    Row("clip_grad", "max_grad_norm", "number"),
    Row("weight_decay", "weight_decay", "number"),
    Row("mtp_num_layers", "mtp_layers", "count"),
    Row("cross_entropy_loss_fusion", "fused_loss", "flag"),
    Row("num_layers", "layers", "count"),
    Row("hidden_size", "hidden_size", "count"),
    Row("ffn_hidden_size", "intermediate_size", "count"),
    Row("num_attention_heads", "attention_heads", "count"),
)
_LORA = (
    Row("lora_rank", "lora_r", "count"),
    Row("lora_alpha", "lora_alpha", "number"),
    Row("lora_dropout", "lora_dropout", "number"),
    Row("use_rslora", "use_rslora", "flag"),
)
_SAMPLES = (
    Row("max_completion_length", "completion_length", "bound"),
    Row("num_generations", "generations", "count"),
)
_TUNERS: Mapping[Plain, FactValue] = MappingProxyType({"lora_llm": "lora"})
_TASKS = {"seq_cls": "seq-cls", "embedding": "embedding", "reranker": "reranker", "generative_reranker": "reranker"}
_SAMPLING = ("grpo", "gkd")
_OPTIMIZERS: Mapping[Plain, FactValue] = MappingProxyType({"adam": "megatron_adam"})


def _complete(config: Config) -> None:
    config.derive("loop", "plain", "Megatron has a training loop of its own")
    config.derive("liger", False, "Megatron has kernels of its own")
    config.derive("full_logits", True, "Megatron's loss, fused or not, works on whole logits")
    environment_facts(config)
    _objective(config)
    _tuning(config)
    _precision(config)
    distributed = config.on("use_distributed_optimizer") and "muon" not in config.text("optimizer")
    parallel_facts(config, distributed=distributed)
    backend_attention(config)
    config.state("padding_free", config.on("padding_free") or config.on("packing"), "padding_free", "packing")
    if not any(config.given(key) for key in ("max_length", "packing_length", "seq_length")):
        config.unknown("sequence_length", "max_length is the model's own maximum by default", "max_length")
    config.translate("optimizer", "optimizer", _OPTIMIZERS)
    if config.on("optimizer_cpu_offload"):
        config.state("offload_optimizer", "cpu", "optimizer_cpu_offload")
    else:
        config.state("offload_optimizer", "none", "optimizer_cpu_offload")
    _batches(config)
    _generation(config)
    ranks_share(config)


def _objective(config: Config) -> None:
    command = command_of(config)
    task = config.text("task_type")
    if config.given("rlhf_type"):
        config.translate("objective", "rlhf_type", {"rm": "reward"})
    elif task in _TASKS:
        config.state("objective", _TASKS[task], "task_type")
    elif command == "rlhf":
        config.state("objective", "dpo", "rlhf_type")
    elif command in ("pt", "sft"):
        config.state("objective", "pretrain" if command == "pt" else "sft", PROGRAM)
    config.assume("objective", "sft", "the command line says the objective; sft is assumed")


def _tuning(config: Config) -> None:
    config.translate("tuning", first_given(config, "tuner_type", "train_type"), _TUNERS)
    fact = config.fact("tuning")
    if fact is None or fact.value != "full":
        say_rows(config, _LORA)
        targets(config)
    freeze_parts(config, "model", towers="freeze_vit", projectors="freeze_aligner", language="freeze_llm")


def _precision(config: Config) -> None:
    """`torch_dtype` turns bf16 or fp16 on unless these are given; the masters are float32."""
    for flag in ("bf16", "fp16"):
        config.say(flag, flag, "flag")
    dtype = config.text("torch_dtype")
    word = {"bfloat16": "bf16", "float16": "fp16"}.get(dtype, "bf16")
    if "bf16" not in config.draft.facts and "fp16" not in config.draft.facts:
        if dtype:
            config.derive("bf16", word == "bf16", f"torch_dtype is {dtype}", "torch_dtype")
        else:
            stated, certain = checkpoint_dtype(config)
            if certain:
                config.derive("bf16", stated != "float16", f"the checkpoint is in {stated}")
            config.assume("bf16", stated != "float16", f"the dtype of the checkpoint, {stated} in nearly all")
    given = config.fact("bf16")
    narrow = "fp16" if given is not None and given.value is False else "bf16"
    config.derive("precision", f"{narrow}-mixed", "Megatron keeps float32 masters", "bf16", "fp16", "torch_dtype")
    config.derive(
        "load_dtype",
        "bfloat16" if narrow == "bf16" else "float16",
        "the model runs in 16 bits",
        "torch_dtype",
        "bf16",
        "fp16",
    )
    if config.given("fp8_format"):
        config.state("fp8", True, "fp8_format")


def _batches(config: Config) -> None:
    """The global batch is shared among data-parallel ranks and micro batches (_init_distributed)."""
    total, micro = config.integer("global_batch_size"), config.integer("micro_batch_size")
    count = processes(config)
    split = math.prod(config.integer(key) or 1 for key, _ in SPLITS[:3])
    if total and micro and count and count % split == 0:
        replicas = count // split
        steps = max(1, total // (micro * replicas))
        reason = f"global_batch_size {total} / (micro_batch_size {micro} · {replicas} data-parallel ranks)"
        config.derive("gradient_accumulation_steps", steps, reason)
    else:
        config.unknown("gradient_accumulation_steps", "global_batch_size / (micro_batch_size · data-parallel ranks)")


def _generation(config: Config) -> None:
    fact = config.fact("objective")
    objective = fact.value if fact else None
    if objective not in _SAMPLING:
        return
    say_rows(config, _SAMPLES)
    config.state("inference_engine", "vllm" if config.on("use_vllm") else "none", "use_vllm")
    memory = first_given(config, "rollout.vllm_gpu_memory_utilization", "vllm_gpu_memory_utilization")
    fraction = config.plain(memory) or config.default("vllm_gpu_memory_utilization")
    config.state("inference_memory_fraction", fraction, memory)
    shared = first_given(config, "rollout.vllm_tensor_parallel_size", "vllm_tensor_parallel_size")
    config.state("inference_tensor_parallel", config.integer(shared) or 1, shared)
    if config.given("beta"):
        config.say("kl_coefficient", "beta", "number")


FRAMEWORK = Framework(
    "ms-swift-megatron",
    "Megatron-SWIFT",
    "ms_swift",
    _ROWS,
    _complete,
    loose=False,
    spelled={
        "tuning": lambda value: {"tuner_type": value} if value in ("full", "lora") and isinstance(value, str) else None,
        "lora_r": lambda value: {"lora_rank": value} if isinstance(value, int) else None,
    },
)
