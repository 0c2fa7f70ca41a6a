"""What the trainers of verl share: adapters, optimizers, sharding, Megatron's sizes (verl 0.8, workers/)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.surfaces.frameworks.framework import Config
from vramlint.surfaces.frameworks.megatron_batches import unsimulated
from vramlint.surfaces.launch.framework_programs import PROGRAM
from vramlint.values import Scalar, Table

ADAPTER_OFF = "adapter off"

DTYPES: Mapping[str, str] = MappingProxyType(
    {
        "bf16": "bfloat16",
        "bfloat16": "bfloat16",
        "fp16": "float16",
        "float16": "float16",
        "half": "float16",
        "fp32": "float32",
        "float32": "float32",
        "float": "float32",
    }
)
"""utils/torch_dtypes.py, PrecisionType."""

_OPTIMIZERS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("torch.optim", "AdamW"): "adamw_torch",
        ("torch.optim", "Adam"): "adamw_torch",
        ("torch.optim", "SGD"): "sgd",
        ("torch.optim", "Adagrad"): "adagrad",
        ("torch.optim", "RMSprop"): "rmsprop",
        ("bitsandbytes.optim", "AdamW8bit"): "adamw_bnb_8bit",
        ("bitsandbytes.optim", "Adam8bit"): "adamw_bnb_8bit",
        ("bitsandbytes.optim", "PagedAdamW8bit"): "paged_adamw_8bit",
        ("bitsandbytes.optim", "PagedAdamW"): "paged_adamw_32bit",
        ("bitsandbytes.optim", "Lion8bit"): "lion_8bit",
        ("torchao.optim", "_AdamW"): "adamw_torch_8bit",
        ("torchao.optim", "AdamW8bit"): "adamw_torch_8bit",
        ("torchao.optim", "AdamW4bit"): "adamw_torch_4bit",
    }
)
"""`optimizer_impl` and `optimizer` (workers/config/optimizer.py, build_optimizer) by the names of the catalog."""


def program(table: Table) -> str:
    """What the command line starts; empty for a file by itself."""
    value = table.get(PROGRAM)
    return value.value if isinstance(value, Scalar) and isinstance(value.value, str) else ""


def tuning(config: Config, model: str, *, megatron: bool = False) -> None:
    """LoRA by its rank: of the FSDP engine `lora_rank`, of Megatron's `lora.rank`.

    Args:
        config: of the run.
        model: key of the model's table.
        megatron: Megatron's keys count.
    """
    rank = f"{model}.lora.rank" if megatron else f"{model}.lora_rank"
    adapter = f"{model}.lora_adapter_path"
    if config.is_unknown(rank):
        config.unknown("tuning", "the rank of LoRA", rank)
        return
    if not (config.integer(rank) or config.given(adapter)):
        config.state("tuning", "full", rank)
        return
    config.state("tuning", "lora", rank, adapter)
    alpha, targets = (
        (f"{model}.lora.alpha", f"{model}.lora.target_modules")
        if megatron
        else (f"{model}.lora_alpha", f"{model}.target_modules")
    )
    config.say("lora_r", rank, "count")
    if not config.say("lora_alpha", alpha, "number"):
        config.state("lora_alpha", config.integer(alpha) or 16, alpha)
    if not config.say("lora_target_modules", targets, "names"):
        default = ("linear_qkv", "linear_proj", "linear_fc1", "linear_fc2") if megatron else "all-linear"
        config.state("lora_target_modules", default, targets)
    config.say("lora_exclude_modules", f"{model}.exclude_modules", "names")
    if not config.say("lora_dropout", f"{model}.lora.dropout", "number"):
        config.derive("lora_dropout", 0.0, "verl asks for no dropout")
    config.derive("adapter_cast", False, "verl casts the adapters to the dtype of the model")


def optimizer(config: Config, table: str) -> None:
    """The optimizer of the FSDP engine; before 0.6.1 always torch's AdamW."""
    if config.release is not None and config.default(f"{table}.optimizer_impl") is None:
        config.state("optimizer", "adamw_torch", f"{table}.optimizer")
        return
    module, name = config.text(f"{table}.optimizer_impl") or "torch.optim", config.text(f"{table}.optimizer") or "AdamW"
    config.state("optimizer", _OPTIMIZERS.get((module, name), name), f"{table}.optimizer", f"{table}.optimizer_impl")


def sharding(config: Config, table: str, *strategies: str) -> None:
    """FSDP's form by `strategy` and `fsdp_size`, what is offloaded, and whether layers are freed behind their forward.

    Between phases only: `param_offload` and `optimizer_offload` bring everything back before a step
    (utils/fsdp_utils.py, load_fsdp_model_to_gpu); `offload_policy` is FSDP 2's own.
    """
    strategy = next((key for key in strategies if config.given(key)), strategies[0])
    config.derive("parallelism", "fsdp", "verl shards the model by FSDP", strategy)
    config.state("fsdp_version", 2 if config.text(strategy) == "fsdp2" else 1, strategy)
    config.derive("sync_each_batch", True, "verl's engine never leaves gradients unreduced")
    size, world = config.integer(f"{table}.fsdp_size") or -1, config.fact("world_size")
    gpus = world.value if world is not None else None
    hybrid = size > 0 and isinstance(gpus, int) and size < gpus
    words = "hybrid_shard" if hybrid else "full_shard"
    if config.on(f"{table}.offload_policy"):
        words += " offload"
    config.state("fsdp", words, f"{table}.fsdp_size")
    if hybrid and isinstance(gpus, int):
        config.state("data_parallel_shard", size, f"{table}.fsdp_size")
        config.derive("data_parallel_replicate", gpus // size, f"{gpus} GPUs in groups of {size}")
    for fact, key in (("offload_parameters", "param_offload"), ("offload_optimizer", "optimizer_offload")):
        config.state(fact, "cpu" if config.on(f"{table}.{key}") else "none", f"{table}.{key}")
    config.state("fsdp_use_orig_params", config.on(f"{table}.use_orig_params"), f"{table}.use_orig_params")
    config.state(
        "fsdp_reshard_after_forward",
        not config.given(f"{table}.reshard_after_forward") or config.on(f"{table}.reshard_after_forward"),
        f"{table}.reshard_after_forward",
    )


_SIZES = (
    ("tensor_parallel", "tensor_model_parallel_size"),
    ("pipeline_parallel", "pipeline_model_parallel_size"),
    ("context_parallel", "context_parallel_size"),
    ("expert_parallel", "expert_model_parallel_size"),
    ("expert_tensor_parallel", "expert_tensor_parallel_size"),
)


_KERNELS: Mapping[str, str] = MappingProxyType(
    {"flash": "flash_attention_2", "fused": "sdpa", "unfused": "eager", "local": "eager", "auto": "sdpa"}
)
"""Megatron's `attention_backend` (megatron-core 0.13 transformer/enums.py, AttnBackend)."""


def megatron(config: Config, table: str, optim: str) -> None:
    """What Megatron's engine does: how it splits the model, which dtypes it keeps, what it recomputes.

    Args:
        config: of the run.
        table: key of the engine's table.
        optim: key of the optimizer's.
    """
    unsimulated(config)
    for fact, key in _SIZES:
        if not config.say(fact, f"{table}.{key}", "count") and fact != "expert_tensor_parallel":
            config.state(fact, config.integer(f"{table}.{key}") or 1, f"{table}.{key}")
    for fact, key in (
        ("sequence_parallel", "sequence_parallel"),
        ("distributed_optimizer", "use_distributed_optimizer"),
    ):
        on = config.on(f"{table}.{key}") if config.given(f"{table}.{key}") else True
        config.state(fact, on, f"{table}.{key}")
    dtype = DTYPES.get(config.text(f"{table}.dtype"), "bfloat16")
    config.state("load_dtype", dtype, f"{table}.dtype")
    config.state("precision", "fp16-mixed" if dtype == "float16" else "bf16-mixed", f"{table}.dtype")
    for fact, key in (("offload_parameters", "param_offload"), ("offload_optimizer", "optimizer_offload")):
        config.state(fact, "cpu" if config.on(f"{table}.{key}") else "none", f"{table}.{key}")
    word = config.text(f"{optim}.optimizer")
    name = "adamw_apex_fused" if word.lower() in ("", "adam", "adamw") else word
    config.state("optimizer", name, f"{optim}.optimizer")
    backend = f"{table}.override_transformer_config.attention_backend"
    kernel = config.text(backend) or "flash"
    config.state("attention_implementation", _KERNELS.get(kernel, kernel), backend)
    granularity = f"{table}.override_transformer_config.recompute_granularity"
    config.state("recompute", config.text(granularity) or "none", granularity)
    config.state("activation_checkpointing", bool(config.text(granularity)), granularity, over=True)


def count_gpus(config: Config, per_node: str, nodes: str) -> None:
    """All GPUs of the run: machines times GPUs of one."""
    if config.is_unknown(per_node) or config.is_unknown(nodes):
        config.unknown("world_size", "how many GPUs the cluster has", per_node, nodes)
        return
    each, machines = config.integer(per_node), config.integer(nodes)
    if each and machines:
        config.state("world_size", each * machines, per_node, nodes)
