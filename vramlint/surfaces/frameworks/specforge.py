"""SpecForge's drafts for speculative decoding, by the YAML of `specforge train` (0.2.0) or options of older scripts.

The keys are those of specforge/config/schema.py; the scripts are scripts/train_eagle3.py and its like, up to 2026-07.
What trains is the draft, whose sizes stand in a file of its own; the target only gives hidden states, from a server of
SGLang or from disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.launch.framework_programs import PROGRAM
from vramlint.surfaces.loading import named_folder
from vramlint.values import Items, Scalar, Table

_ROWS = (
    Row("model.target_model_path", "model", "text"),
    Row("target_model_path", "model", "text"),
    Row("data.max_length", "sequence_length", "count"),
    Row("max_length", "sequence_length", "count"),
    Row("training.batch_size", "micro_batch_size", "count"),
    Row("batch_size", "micro_batch_size", "count"),
    Row("draft_micro_batch_size", "micro_batch_size", "count"),
    Row("training.accumulation_steps", "gradient_accumulation_steps", "count"),
    Row("draft_accumulation_steps", "gradient_accumulation_steps", "count"),
    Row("accumulation_steps", "gradient_accumulation_steps", "count"),
    Row("training.max_grad_norm", "max_grad_norm", "number"),
    Row("max_grad_norm", "max_grad_norm", "number"),
    Row("model.torch_dtype", "load_dtype", "dtype"),
    Row("model.use_liger_kernel", "liger", "flag"),
    Row("model.trust_remote_code", "trust_remote_code", "flag"),
    Row("trust_remote_code", "trust_remote_code", "flag"),
    Row("deployment.trainer.nnodes", "nodes", "count"),
    Row("deployment.trainer.nproc_per_node", "gpus_per_node", "count"),
)

_SCRIPTS: Mapping[str, str] = MappingProxyType(
    {"train_dflash": "dflash", "train_domino": "domino", "train_peagle": "peagle"}
)
"""Scripts before `specforge train`, by what they train; all others train EAGLE-3's draft."""

_ATTENTION: Mapping[str, str] = MappingProxyType({"fa": "flash_attention_2", "fa_experimental": "flash_attention_2"})
"""`attention_backend` of the draft (specforge/modeling/draft); others by their own name."""

_SHARDING: Mapping[str, str] = MappingProxyType({"SHARD_GRAD_OP": "shard_grad_op", "FULL_SHARD": "full_shard"})


def _keys_of(table: Table) -> str:
    return "specforge-scripts" if _script(table) else "specforge"


def _script(table: Table) -> str:
    """The script that is started; empty for `specforge train` and for a file."""
    value = table.get(PROGRAM)
    words = value.value if isinstance(value, Scalar) and isinstance(value.value, str) else ""
    name = words.replace("\\", "/").replace("/", ".").removesuffix(".py").rpartition(".")[2]
    return name if name.startswith("train_") else ""


def _complete(config: Config) -> None:
    script = _script(config.table)
    config.derive("loop", "script", "SpecForge's trainers have a loop of their own")
    if script:
        method = _SCRIPTS.get(script, "eagle3")
        config.by_program("objective", method)
    else:
        method = config.text("training.strategy") or "eagle3"
        config.state("objective", method, "training.strategy")
    _draft(config, method)
    _precision(config)
    _machines(config)
    _sharing(config)
    _target(config, script)
    config.derive("tuning", "full", "the whole draft model trains, what it takes from the target aside")
    config.derive("quantization_bits", 16, "the draft is not quantized")
    config.derive("activation_checkpointing", False, "SpecForge recomputes no layers of the draft")
    config.derive("torch_compile", False, "only attention and losses are compiled")
    config.derive("packing", False, "SpecForge pads samples, and joins none")
    backend = "training.attention_backend" if not script else "attention_backend"
    word = config.text(backend) or "flex_attention"
    config.state("attention_implementation", _ATTENTION.get(word, word), backend)


def _draft(config: Config, method: str) -> None:
    """The file of the draft's sizes; without one, they follow from the target's."""
    for key in ("model.draft_model_config", "draft_model_config", "draft_config_path", "model.draft_checkpoint_path"):
        value = config.value(key)
        named = named_folder(value) if value is not None else None
        if isinstance(named, Scalar) and isinstance(named.value, str):
            config.state("draft_model", named.value, key)
            return
        if value is not None:
            config.unknown("draft_model", "which draft model is trained", key)
            return
    layers = config.integer("model.draft_num_hidden_layers") or (4 if method == "peagle" else 1)
    config.derive("draft_model", "", f"a draft of {layers} layers like the target's", "model.draft_num_hidden_layers")
    config.state("layers", layers, "model.draft_num_hidden_layers")


def _precision(config: Config) -> None:
    """optimizer.py, BF16Optimizer: AdamW over float32 copies of the draft's weights."""
    dtype = config.fact("load_dtype")
    word = dtype.value if dtype is not None else config.default("model.torch_dtype")
    word = word if isinstance(word, str) else "bfloat16"
    config.state("load_dtype", word, "model.torch_dtype")
    flag = {"bfloat16": "bf16-mixed", "float16": "fp16-mixed"}.get(word, "fp32")
    config.state("precision", flag, "model.torch_dtype")
    offload = "training.optimizer_cpu_offload"
    name = "BF16Optimizer on the host" if config.on(offload) else "adamw_torch"
    config.derive("optimizer", name, "SpecForge's BF16Optimizer keeps float32 copies under torch's AdamW", offload)
    config.state("offload_optimizer", "cpu" if config.on(offload) else "none", offload)


def _machines(config: Config) -> None:
    each, nodes = "deployment.trainer.nproc_per_node", "deployment.trainer.nnodes"
    gpus, machines = config.integer(each), config.integer(nodes)
    if gpus and machines and not config.is_unknown(each):
        config.state("world_size", gpus * machines, each, nodes)


def _sharing(config: Config) -> None:
    key = "training.fsdp_sharding"
    word = config.text(key) or "SHARD_GRAD_OP"
    if word == "NO_SHARD":
        config.state("parallelism", "ddp", key)
    else:
        config.derive("parallelism", "fsdp", "SpecForge wraps the draft in FSDP", key)
        config.state("fsdp", _SHARDING.get(word, word.lower()), key)
        config.derive("fsdp_version", 1, "SpecForge wraps the draft in FSDP")
        config.derive("fsdp_use_orig_params", True, "SpecForge asks for it")
    size = (config.integer("training.sp_ulysses_size") or config.integer("sp_ulysses_size") or 1) * (
        config.integer("training.sp_ring_size") or config.integer("sp_ring_size") or 1
    )
    if size > 1:
        keys = ("training.sp_ulysses_size", "sp_ulysses_size", "training.sp_ring_size", "sp_ring_size")
        config.state("context_parallel", size, *keys)
    if config.keys == "specforge":
        config.state("tensor_parallel", config.integer("training.tp_size") or 1, "training.tp_size")
    else:  # the scripts' option is the target's alone
        config.state("inference_tensor_parallel", config.integer("tp_size") or 1, "tp_size")


def _target(config: Config, script: str) -> None:
    """What runs the target: a server of SGLang online, nothing offline."""
    offline = config.text("data.hidden_states_path") or config.text("train_hidden_states_path")
    if offline or script == "train_eagle3_offline":
        key = "data.hidden_states_path" if config.keys == "specforge" else "train_hidden_states_path"
        config.state("inference_engine", "none", key)
        return
    backend = "model.target_backend" if config.keys == "specforge" else "target_model_backend"
    config.state("inference_engine", config.text(backend) or "sglang", backend)
    servers = config.value("deployment.disaggregated.managed_local.capture_servers")
    first = servers.values[0] if isinstance(servers, Items) and servers.values else None
    size = first.get("tp_size") if isinstance(first, Table) else None
    if isinstance(size, Scalar) and isinstance(size.value, int):
        config.state("inference_tensor_parallel", size.value, "deployment.disaggregated.managed_local.capture_servers")
    part = first.get("mem_fraction_static") if isinstance(first, Table) else None
    share = "model.sglang_mem_fraction_static" if config.keys == "specforge" else "sglang_mem_fraction_static"
    if isinstance(part, Scalar) and isinstance(part.value, int | float):
        key = "deployment.disaggregated.managed_local.capture_servers"
        config.state("inference_memory_fraction", part.value, key)
    elif config.given(share):
        config.say("inference_memory_fraction", share, "number")


FRAMEWORK = Framework(
    "specforge",
    "SpecForge",
    "specforge",
    _ROWS,
    _complete,
    loose=False,
    keys_of=_keys_of,
    closed=frozenset(
        {
            "tuning",
            "quantization_bits",
            "optimizer",
            "fused_loss",
            "attention_implementation",
            "zero_stage",
            "load_dtype",
        }
    ),
)
