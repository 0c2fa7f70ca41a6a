"""gpt-neox's YAML and JSON (EleutherAI/gpt-neox@ea7aefd: megatron/neox_arguments, training.py, model/transformer.py).

One run has several files, merged in the order of the command line (`deepy.py train.py -d configs 1-3B.yml local.yml`);
what a file with the model's sizes alone leaves out, another file says.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.facts import FactValue
from vramlint.surfaces.frameworks.dashes import as_spelled, underscored
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.frameworks.gpt_neox_models import RECURRENT, attention_kinds, define_model
from vramlint.values import Plain

_ROWS = (
    Row("num_layers", "layers", "count"),
    Row("hidden_size", "hidden_size", "count"),
    Row("num_attention_heads", "attention_heads", "count"),
    Row("num_kv_heads", "key_value_heads", "count"),
    Row("seq_length", "sequence_length", "count"),
    Row("activation", "activation", "text"),
    Row("make_vocab_size_divisible_by", "vocabulary_multiple", "count"),
    Row("model_parallel_size", "tensor_parallel", "count"),
    Row("moe_expert_parallel_size", "expert_parallel", "count"),  # with DeepSpeed's MoE, in 2024 alone
    Row("sequence_parallel", "sequence_parallel", "flag"),
    Row("train_micro_batch_size_per_gpu", "micro_batch_size", "count"),
    Row("train_iters", "max_steps", "count"),
    Row("train_batch_size", "global_batch_size", "count"),
    Row("partition_activations", "partition_activations", "flag"),
    Row("zero_optimization.stage", "zero_stage", "count"),
    Row("zero_optimization.reduce_bucket_size", "reduce_bucket_size", "elements"),
    Row("zero_optimization.allgather_bucket_size", "allgather_bucket_size", "elements"),
    Row("zero_optimization.stage3_prefetch_bucket_size", "prefetch_bucket_size", "elements"),
    Row("zero_optimization.stage3_param_persistence_threshold", "parameter_persistence_threshold", "elements"),
    Row("zero_optimization.stage3_max_live_parameters", "max_live_parameters", "elements"),
    Row("zero_optimization.stage3_max_reuse_distance", "max_reuse_distance", "elements"),
    Row("zero_optimization.sub_group_size", "sub_group_size", "elements"),
    Row("zero_optimization.overlap_comm", "overlap_comm", "flag"),
    Row("zero_optimization.offload_optimizer.device", "offload_optimizer", "device"),
    Row("zero_optimization.cpu_offload", "offload_optimizer", "cpu-or-none"),
    Row("zero_optimization.offload_param.device", "offload_parameters", "device"),
    Row("data_types.grad_accum_dtype", "gradient_accumulation_dtype", "dtype"),
    Row("gradient_clipping", "max_grad_norm", "number"),
    Row("weight_decay", "weight_decay", "number"),
    Row("gradient_accumulation_steps", "gradient_accumulation_steps", "count"),
    Row("gas", "gradient_accumulation_steps", "count"),  # of the first releases
    Row("checkpoint_activations", "activation_checkpointing", "flag"),
)

_CUT = "type:transformer|mlp"
"""How the layers are cut into stages unless a file says (neox_args.py, pipe_partition_method)."""

_ELSEWHERE = "another file of the same command line says it"
"""gpt-neox merges the files that it is given, and takes no run without a batch and an optimizer."""

_RUN = ("num_layers", "hidden_size", "train_micro_batch_size_per_gpu", "train_batch_size", "optimizer", "fp16", "bf16")
"""Keys of which every file has one that says something about a run; `local_setup.yml` has none."""

_OBJECTIVES: Mapping[str, str] = MappingProxyType(
    {"dpo": "dpo", "rm": "reward", "kto": "kto", "reinforce": "reinforce"}
)
"""`train_impl` and the objective; `normal` is next-token prediction."""

_OPTIMIZERS: Mapping[str, str] = MappingProxyType(
    {
        "adam": "adam",
        "cpu_adam": "deepspeed_cpu_adam",
        "cpu_torch_adam": "deepspeed_cpu_adam",  # get_optimizer compares a dict with the name, so this one is built
        "onebitadam": "deepspeed_onebit",
        "sgd": "sgd",
        "lion": "deepspeed_lion",
    }
)
"""`optimizer.type` in lower letters and the optimizer that training.py builds; others go by their own name."""

_ZERO_DEFAULTS: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "reduce_bucket_size": ("zero_optimization.reduce_bucket_size", 500_000_000),
        "allgather_bucket_size": ("zero_optimization.allgather_bucket_size", 500_000_000),
    }
)
"""Fact, key and default (neox_arguments/arguments.py, ZERO_DEFAULTS, which are DeepSpeed's own)."""


def _complete(config: Config) -> None:
    whole = config.given("train_micro_batch_size_per_gpu") or config.given("train_batch_size")
    if not (config.command or any(map(config.given, _RUN))):
        config.derive("run_kind", "library", "paths and machines for the files of runs", over=True)
    config.derive("loop", "plain", "gpt-neox has a training loop of its own")
    config.derive("tuning", "full", "every weight is trained")
    config.derive("parallelism", "deepspeed", "gpt-neox trains with DeepSpeed's engine")
    _objective(config)
    config.state("packing", config.text("pack_impl") != "unpacked", "pack_impl")
    define_model(config)
    _attention(config)
    stages = config.integer("pipe_parallel_size") or 0
    config.state("pipeline_parallel", max(stages, 1), "pipe_parallel_size")
    config.state("pipeline_engine", stages > 0, "pipe_parallel_size")
    config.state("pipeline_layout", config.text("pipe_partition_method") or _CUT, "pipe_partition_method")
    config.derive("divided_by", "gpt-neox", "its ranks share matrices and layers as its model is written")
    _precision(config, whole)
    _optimizer(config)
    _zero(config, whole)
    _checkpointing(config, whole)
    if not whole:
        for fact in ("micro_batch_size", "gradient_accumulation_steps"):
            config.unknown(fact, _ELSEWHERE)
    if config.fact("sequence_length") is None:
        config.unknown("sequence_length", _ELSEWHERE)


def _objective(config: Config) -> None:
    named = _OBJECTIVES.get(config.text("train_impl"))
    labels = ("train_label_data_paths", "pos_train_label_data_paths")
    if named is not None:
        config.state("objective", named, "train_impl")
    elif any(map(config.given, labels)):
        config.derive("objective", "sft", "the loss is that of the labels' tokens alone", *labels)
    else:
        config.derive("objective", "pretrain", "the loss is that of every token")


def _precision(config: Config, whole: bool) -> None:
    for key, word in (("fp16", "fp16-mixed"), ("bf16", "bf16-mixed")):
        if config.on(f"{key}.enabled"):
            config.state("precision", word, f"{key}.enabled")
    words = {"fp16": "fp16-mixed", "bfloat16": "bf16-mixed"}
    precision = config.text("precision")
    if precision in words:
        config.state("precision", words[precision], "precision")
    elif whole or precision:
        config.state("precision", "fp32", "precision")
    else:
        config.unknown("precision", _ELSEWHERE)
    config.also("precision", "precision", "fp16.enabled", "bf16.enabled")
    said = config.fact("precision")
    if said is not None and said.known:
        for flag in ("bf16", "fp16"):
            config.derive(flag, said.value == f"{flag}-mixed", "by the precision")


def _optimizer(config: Config) -> None:
    kind = config.text("optimizer.type")
    if not config.given("optimizer"):
        config.unknown("optimizer", f"gpt-neox has no optimizer by default: {_ELSEWHERE}")
        return
    name = _OPTIMIZERS.get(kind.lower() or "adam", kind)
    if name == "adam":
        name = "adamw_bnb_8bit" if config.on("use_bnb_optimizer") else "deepspeed.FusedAdam"
    config.state("optimizer", name, "optimizer.type")


def _zero(config: Config, whole: bool) -> None:
    if not (whole or config.given("zero_optimization")):
        for fact in ("zero_stage", "deepspeed_config"):  # what is offloaded is said there too
            config.unknown(fact, _ELSEWHERE)
        return
    config.state("zero_stage", 0, "zero_optimization.stage")
    for fact, (key, value) in _ZERO_DEFAULTS.items():
        config.state(fact, value, key)
    for fact in ("offload_optimizer", "offload_parameters"):
        config.state(fact, "none", f"zero_optimization.{fact}")


def _checkpointing(config: Config, whole: bool) -> None:
    key = "checkpoint_activations"
    if not (whole or config.given(key)):
        config.unknown("activation_checkpointing", _ELSEWHERE)
        return
    if config.on(key):
        config.say("checkpointing_every_n_layers", "checkpoint_num_layers", "count")
        config.derive("checkpointing_reentrant", True, "DeepSpeed's checkpointing is an autograd function")
        config.state("checkpointing_offload", config.on("checkpoint_in_cpu"), "checkpoint_in_cpu")


def _attention(config: Config) -> None:
    kinds = attention_kinds(config.value("attention_config"))
    if kinds & RECURRENT:
        config.state("attention_kind", "/".join(sorted(kinds & RECURRENT)), "attention_config")
        return
    config.state("attention_implementation", "flash_attention_2" if "flash" in kinds else "eager", "attention_config")


def _spelled_optimizer(value: FactValue) -> Mapping[str, Plain] | None:
    """Adam in bitsandbytes' 8 bits, or as it is."""
    switch = {"adamw_bnb_8bit": True, "deepspeed.FusedAdam": False}.get(str(value))
    return {"use_bnb_optimizer": switch} if switch is not None else None


def _spelled_offload(value: FactValue) -> Mapping[str, Plain] | None:
    """DeepSpeed offloads the states of its own Adam alone, which gpt-neox builds under another name."""
    kinds = {"cpu": "cpu_adam", "none": "Adam"}
    if value not in kinds:
        return None
    return {"zero_optimization.offload_optimizer.device": str(value), "optimizer.type": kinds[str(value)]}


FRAMEWORK = Framework(
    "gpt-neox",
    "gpt-neox",
    "",
    _ROWS,
    _complete,
    loose=False,
    prepared=underscored,
    located=as_spelled,
    spelled={"optimizer": _spelled_optimizer, "offload_optimizer": _spelled_offload},
    closed=frozenset(
        {"tuning", "quantization_bits", "fused_loss", "load_dtype", "optimizer", "attention_implementation"}
    ),
)
