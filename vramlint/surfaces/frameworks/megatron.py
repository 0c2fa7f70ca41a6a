"""Megatron-LM's flags (NVIDIA/Megatron-LM@d98e8a6, megatron-core 0.20: megatron/training/arguments.py)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.facts import FactValue
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.frameworks.megatron_batches import accumulate
from vramlint.surfaces.frameworks.megatron_engine import engine_facts, unfollowed
from vramlint.surfaces.frameworks.megatron_forms import ALLOCATOR, as_written, flags
from vramlint.surfaces.frameworks.megatron_kinds import is_bert, is_t5
from vramlint.surfaces.frameworks.megatron_models import define_model
from vramlint.values import Plain

_ROWS = (
    Row("micro_batch_size", "micro_batch_size", "count"),
    Row("train_iters", "max_steps", "count"),
    Row("global_batch_size", "global_batch_size", "count"),
    Row("eval_micro_batch_size", "eval_micro_batch_size", "count"),
    Row("seq_length", "sequence_length", "count"),
    Row("encoder_seq_length", "sequence_length", "count"),
    Row("tensor_model_parallel_size", "tensor_parallel", "count"),
    Row("pipeline_model_parallel_size", "pipeline_parallel", "count"),
    Row("pipeline_model_parallel_layout", "pipeline_layout", "text"),
    Row("context_parallel_size", "context_parallel", "count"),
    Row("expert_model_parallel_size", "expert_parallel", "count"),
    Row("sequence_parallel", "sequence_parallel", "flag"),
    Row("use_distributed_optimizer", "distributed_optimizer", "flag"),
    Row("make_vocab_size_divisible_by", "vocabulary_multiple", "count"),
    Row("hidden_size", "hidden_size", "count"),
    Row("num_attention_heads", "attention_heads", "count"),
    Row("hidden_dropout", "dropout", "number"),
    Row("clip_grad", "max_grad_norm", "number"),
    Row("weight_decay", "weight_decay", "number"),
    Row(ALLOCATOR, "allocator_settings", "text"),
)

_OPTIMIZERS: Mapping[str, str] = MappingProxyType(
    {"adam": "adamw_apex_fused", "sgd": "sgd", "muon": "muon", "dist_muon": "muon", "lion": "lion_pytorch"}
)
"""`--optimizer` and the optimizer that megatron/core/optimizer builds: Adam is Transformer Engine's or Apex's fused."""

_BACKENDS: Mapping[str, str] = MappingProxyType(
    {"flash": "flash_attention_2", "unfused": "eager", "local": "eager", "fused": "sdpa"}
)
"""`--attention-backend`; `auto` leaves it to Transformer Engine."""

_WHOLE_LAYERS = ("checkpoint_activations", "activations_checkpoint_method")
"""Flags that recompute every layer: of Megatron-LM up to 2.5 and Megatron-DeepSpeed, and of 2.6 to 2.9. Megatron-Core
refuses them."""

_SIZES = ("tensor_model_parallel_size", "pipeline_model_parallel_size", "context_parallel_size")

_GENERATES = ("num_tokens_to_generate", "prompts", "prompt_file", "incoming_requests_per_sec")
"""Flags of programs that generate text (tests/functional_tests, gpt_dynamic_inference.py)."""


_PROVIDER = "model_provider"
"""Of examples/mimo/train.py, whose models have towers of their own and frozen parts (examples/mimo/model_providers)."""


def _complete(config: Config) -> None:
    config.derive("loop", "plain", "Megatron has a training loop of its own")
    provided = config.given(_PROVIDER)
    if not provided:
        config.derive("tuning", "full", "every weight is trained")
    _objective(config)
    _parallelism(config)
    _precision(config)
    recomputation(config)
    _optimizer(config)
    attention(config)
    config.state("fused_loss", config.on("cross_entropy_loss_fusion"), "cross_entropy_loss_fusion")
    config.derive("full_logits", True, "the head's matrix product stands alone")
    if is_bert(config) or is_t5(config):
        config.derive("pad_to_maximum", True, "samples are padded to the length (core/datasets)")
    else:
        config.derive("packing", True, "samples are cut from joined documents")
    if is_t5(config):
        config.say("target_length", "decoder_seq_length", "count")
    if provided:
        config.unknown("model", "a program makes it by that name, and trains a part of it", _PROVIDER)
    else:
        define_model(config)
    accumulate(config, "global_batch_size", "micro_batch_size", _SIZES)


def _objective(config: Config) -> None:
    if any(map(config.given, _GENERATES)) and not config.given("train_iters") and not config.given("train_samples"):
        config.derive("run_kind", "inference", "the flags are those of text generation", *_GENERATES, over=True)
    if config.on("perform_rl_step"):
        config.state("objective", "grpo", "perform_rl_step")
        config.say("generations", "grpo_group_size", "count")
        config.say("kl_coefficient", "grpo_kl_beta", "number")
        config.say("inference_tensor_parallel", "rl_inference_tensor_model_parallel_size", "count")
        config.derive("inference_engine", "megatron", "Megatron generates by itself")
    elif config.given("export_kd_teacher_load"):
        config.state("objective", "distillation", "export_kd_teacher_load")
    elif config.on("sft"):
        config.state("objective", "sft", "sft")
    elif is_bert(config):
        config.derive("objective", "mlm", "BERT is trained on masked tokens")
    elif is_t5(config):
        config.derive("objective", "span-corruption", "T5 is trained on masked spans")
    else:
        config.derive("objective", "pretrain", "the loss is that of every token")
    config.say("image_size", "img_h", "count")


def _parallelism(config: Config) -> None:
    if config.given("num_experts") or config.given("expert_tensor_parallel_size"):
        config.say("expert_tensor_parallel", "expert_tensor_parallel_size", "count")
        size = config.integer("tensor_model_parallel_size")
        if size is not None:
            config.derive("expert_tensor_parallel", size, "the experts are shared as the other matrices are")
    if config.on("use_megatron_fsdp"):
        config.state("fsdp", config.text("data_parallel_sharding_strategy"), "data_parallel_sharding_strategy")
    elif config.on("use_torch_fsdp2"):
        config.state("fsdp", "full_shard", "use_torch_fsdp2")
        config.state("fsdp_version", 2, "use_torch_fsdp2")
    if config.on("deepspeed") and config.given("deepspeed_config"):  # Megatron-DeepSpeed's own two flags
        config.link("deepspeed", "deepspeed_config")
        if config.is_unknown("deepspeed_config"):
            config.unknown("deepspeed_config", "which file it is, only run time knows", "deepspeed_config")
            config.derive("parallelism", "deepspeed", "Megatron-DeepSpeed trains with DeepSpeed's engine", "deepspeed")
        config.say("zero_stage", "zero_stage", "count")  # beside the file, which has to say the same stage
    elif why := unfollowed(config):
        config.unknown("parallelism", f"{why} under Megatron is not simulated")
    else:
        config.derive("parallelism", "megatron", "Megatron's ranks share the model as its flags say")
    engine_facts(config)
    for key, fact in (("devices", "gpus_per_node"), ("num_nodes", "nodes")):
        config.say(fact, key, "count")
    devices, nodes = config.integer("devices"), config.integer("num_nodes")
    if devices is not None and nodes is not None:
        config.state("world_size", devices * nodes, "devices")


def _precision(config: Config) -> None:
    kind = next((kind for kind in ("bf16", "fp16") if config.on(kind)), "")
    if kind:
        config.state("precision", f"{kind}-mixed", kind)
    else:
        config.state("precision", "fp32", "bf16", "fp16")
    for flag in ("bf16", "fp16"):
        config.derive(flag, flag == kind, "by the precision")
    config.state("fp8", config.given("fp8_format"), "fp8_format")


def recomputation(config: Config) -> None:
    """What is recomputed in backward, and what waits on the host."""
    granularity = config.text("recompute_granularity")
    former = next(filter(config.given, _WHOLE_LAYERS), "") if not granularity else ""
    if granularity:
        config.state("recompute", granularity, "recompute_granularity")
    elif former:
        config.state("recompute", "full", former)
    elif config.on("recompute_activations"):
        config.state("recompute", "selective", "recompute_activations")
    else:
        config.state("recompute", "none", "recompute_granularity")
    keys = ("recompute_granularity", "recompute_activations")
    config.state("activation_checkpointing", granularity == "full" or bool(former), *((former,) if former else keys))
    offloads = config.on("fine_grained_activation_offloading") or bool(config.integer("cpu_offloading_num_layers"))
    config.state("activation_offloading", offloads, "fine_grained_activation_offloading", "cpu_offloading_num_layers")


def _optimizer(config: Config) -> None:
    word = config.text("optimizer")
    config.state("optimizer", _OPTIMIZERS.get(word, word), "optimizer")
    config.state("offload_optimizer", "cpu" if config.on("optimizer_cpu_offload") else "none", "optimizer_cpu_offload")


def attention(config: Config) -> None:
    """The kernel of attention."""
    backend = config.text("attention_backend")
    if config.on("use_flash_attn"):
        config.state("attention_implementation", "flash_attention_2", "use_flash_attn")
    elif backend in _BACKENDS:
        config.state("attention_implementation", _BACKENDS[backend], "attention_backend")
    elif config.text("transformer_impl") == "local":
        config.derive(
            "attention_implementation", "eager", "Megatron's own attention keeps the scores", "transformer_impl"
        )
    else:
        reason = "attention_backend is auto: Transformer Engine takes a fused kernel"
        config.derive("attention_implementation", "sdpa", reason, "attention_backend")


def spelled_recomputation(value: FactValue, prefix: str = "") -> Mapping[str, Plain] | None:
    """The flags that recompute every layer, or none.

    Args:
        value: whether activations are recomputed.
        prefix: of the flags, with its dot.
    """
    if not isinstance(value, bool):
        return None
    if not value:
        return {f"{prefix}recompute_granularity": None}
    return {
        f"{prefix}recompute_granularity": "full",
        f"{prefix}recompute_method": "uniform",
        f"{prefix}recompute_num_layers": 1,
    }


def _spelled_attention(value: FactValue) -> Mapping[str, Plain] | None:
    words = {implementation: word for word, implementation in _BACKENDS.items() if word != "local"}
    return {"attention_backend": words[str(value)]} if value in words else None


FRAMEWORK = Framework(
    "megatron",
    "Megatron-LM",
    "megatron-core",
    _ROWS,
    _complete,
    prepared=flags,
    located=as_written,
    spelled={"activation_checkpointing": spelled_recomputation, "attention_implementation": _spelled_attention},
    closed=frozenset({"tuning", "quantization_bits", "load_dtype"}),
)
