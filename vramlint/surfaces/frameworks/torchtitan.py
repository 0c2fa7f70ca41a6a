"""torchtitan's TOML (torchtitan 0.0.1 to 0.2.2: config/job_config.py, config_manager.py, train.py, distributed/*).

A key of an older release counts where the newer one is not written: `training.batch_size`, `training.compile`.
"""

from __future__ import annotations

from math import prod

from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.frameworks.torchtitan_models import MODEL_TYPES, attention_of, network, sizes_of
from vramlint.surfaces.frameworks.torchtitan_pipeline import stages
from vramlint.surfaces.frameworks.torchtitan_registry import chosen, in_older_words
from vramlint.surfaces.frameworks.torchtitan_spelling import spelled_accumulation, spelled_checkpointing
from vramlint.values import Plain

_ROWS = (
    Row("training.local_batch_size", "micro_batch_size", "count"),
    Row("training.steps", "max_steps", "count"),
    Row("training.batch_size", "micro_batch_size", "count"),
    Row("training.seq_len", "sequence_length", "count"),
    Row("training.dtype", "load_dtype", "dtype"),
    Row("training.max_norm", "max_grad_norm", "number"),
    Row("optimizer.weight_decay", "weight_decay", "number"),
    Row("training.img_size", "image_size", "count"),
    Row("optimizer.early_step_in_backward", "optimizer_in_backward", "flag"),
    Row("compile.enable", "torch_compile", "flag"),
    Row("training.compile", "torch_compile", "flag"),
    Row("parallelism.fsdp_reshard_after_forward", "fsdp_reshard_after_forward", "text"),
)
_DEGREES = (
    ("data_parallel_replicate", ("parallelism", "training"), "data_parallel_replicate_degree"),
    ("data_parallel_shard", ("parallelism", "training"), "data_parallel_shard_degree"),
    ("tensor_parallel", ("parallelism", "training"), "tensor_parallel_degree"),
    ("pipeline_parallel", ("parallelism", "experimental"), "pipeline_parallel_degree"),
    ("context_parallel", ("parallelism", "experimental"), "context_parallel_degree"),
    ("expert_parallel", ("parallelism",), "expert_parallel_degree"),
    ("expert_tensor_parallel", ("parallelism",), "expert_tensor_parallel_degree"),
)
"""Facts, the tables of the newer and the older releases, and the key."""
_RANKS = (
    "data_parallel_replicate",
    "data_parallel_shard",
    "tensor_parallel",
    "pipeline_parallel",
    "context_parallel",
)
"""Degrees whose product torchtitan asserts to be the world size (distributed/parallel_dims.py)."""
_EARLY_STOP = "activation_checkpoint.early_stop"
_SHARD = ("parallelism.data_parallel_shard_degree", "training.data_parallel_shard_degree")
_RESHARD = "parallelism.fsdp_reshard_after_forward"
_REDUCED = "training.mixed_precision_reduce"
_IMPLEMENTATIONS = {"fused": "(fused=True)", "foreach": "", "for-loop": "(foreach=False)"}
"""`optimizer.implementation` and what it adds to the name of torch's class."""
_CONVERTERS = "model.converters"
_FORMATS = {"float8": "float8", "mx": "mxfp8", "nvfp4": "nvfp4"}
"""Last words of converters, and the format in which their layers multiply."""
_FOLLOWED = ("lora", "qat")
"""Those that facts of their own tell."""
_DIFFUSION = ("flux", "flux-dev", "flux-schnell")
_COMPILES_LOSSES = (0, 1)
"""The release from which `training.compile` means the loss too (pull request 1033)."""
_WITH_HUB = "transformers_modeling_backend"
"""Its model is one of the hub's (experiments/transformers_modeling_backend/job_config.py)."""


def _complete(config: Config) -> None:
    name = config.text("model.name")
    _model(config, name)
    _tuning(config)
    what = "diffusion" if name in _DIFFUSION else "pretrain"
    config.derive("objective", what, "torchtitan trains on documents joined to rows", "job.description")
    if what == "pretrain":
        config.derive("packing", True, "documents are joined to rows of seq_len")
        config.derive("padding", False, "rows are full")
    config.derive("loop", "plain", "the trainer lets go of the predictions before backward (train.py)")
    config.derive("use_cache", False, "torchtitan's models have no cache")
    if config.text("loss.type") == "ChunkedLossWrapper":
        config.state("loss_type", "ChunkedLossWrapper", "loss.type")
        config.derive("full_logits", False, "head and loss take one eighth of the tokens after the other", "loss.type")
    elif _compiles_loss(config):
        config.derive("loss_type", "compiled", "the loss is compiled", "compile.components", "compile.enable")
    if config.given("compile.components") and "model" not in config.words("compile.components"):
        config.derive(
            "torch_compile", False, "the model is not among what is compiled", "compile.components", over=True
        )
    _precision(config)
    _optimizer(config)
    _batches(config)
    _checkpointing(config)
    _sharing(config)


def _model(config: Config, name: str) -> None:
    flavor = config.text("model.flavor")
    if name == _WITH_HUB and config.given("hf_transformers.model"):
        config.say("model", "hf_transformers.model", "text")
        return
    if config.given("model.config") and not config.given("model.flavor"):
        config.say("model", "model.config", "text")  # flame's, which builds it with transformers (flame/train.py)
        return
    if config.is_unknown("model.flavor") or config.is_unknown("model.name"):
        config.unknown("model", "the model's flavor is not written here", "model.flavor")
        return
    config.state("model", f"{name}/{flavor}", "model.flavor", "model.name")
    sizes = sizes_of(name, flavor)
    if sizes is None:
        return
    length = config.fact("sequence_length")
    table = network(name, sizes, length.value if length is not None and isinstance(length.value, int) else None)
    if name in MODEL_TYPES:
        config.derive("model_type", MODEL_TYPES[name], f"torchtitan's {name}", "model.flavor", "model.name")
    if table is not None:
        config.draft.tables.append(("model-config", table))
    config.derive("attention_implementation", attention_of(sizes), f"the flavor {flavor}", "model.flavor")


def _compiles_loss(config: Config) -> bool:
    """components/loss.py: where torch.compile is on and not for the model alone; before 0.1 it never was."""
    named = config.words("compile.components") if config.given("compile.components") else ("loss",)
    older = config.given("training.compile") and config.on("training.compile")
    if older and config.release is not None and config.release >= _COMPILES_LOSSES:
        return True
    return config.given("compile.enable") and config.on("compile.enable") and "loss" in named


def _tuning(config: Config) -> None:
    """components/lora.py: adapters of a converter, in the dtype of the weights."""
    if not config.given("lora"):
        config.derive("tuning", "full", "torchtitan trains all weights")
        return
    config.state("tuning", "lora", "lora")
    config.derive("adapter_library", "torchtitan", "torchtitan's own layers", "lora")
    for key, fact, default in (("rank", "lora_r", 8), ("alpha", "lora_alpha", 16.0)):
        if not config.say(fact, f"lora.{key}", "number"):
            config.state(fact, default, f"lora.{key}")
    words = config.words("lora.target_modules")
    config.state("lora_target_modules", words or "all-linear", "lora.target_modules")


def _precision(config: Config) -> None:
    """distributed/utils.py, maybe_enable_amp: fully_shard or autocast, whichever there is, computes in this dtype."""
    if not config.given("training.dtype"):
        config.state("load_dtype", _or(config.default("training.dtype"), "float32"), "training.dtype")
    weights = config.fact("load_dtype")
    compute = config.text("training.mixed_precision_param") or "bfloat16"
    key = "training.mixed_precision_param"
    if weights is not None and weights.value == "bfloat16":
        config.derive("precision", "bf16-pure", "weights, gradients and states are bfloat16", "training.dtype")
    else:
        config.state("precision", "bf16-mixed" if compute == "bfloat16" else "fp32", key)
    config.state("bf16", compute == "bfloat16" and (weights is None or weights.value != "bfloat16"), key)
    _converters(config)


def _converters(config: Config) -> None:
    """protocols/model_converter.py: what is done to the model before it is shared; sections alone do nothing.

    Converters of 0.0.2 and 0.1 are float8 and mx, of 0.2 quantize.{linear,grouped_mm}.{float8,mx}; those of registries
    come by the same words. What the converted layers keep for backward is not followed.
    """
    words = config.words(_CONVERTERS)
    kinds = [word.rpartition(".")[2] for word in words]
    older = config.on("float8.enable_float8_linear") and config.given("float8.enable_float8_linear")
    config.state("fp8", older or "float8" in kinds or "mx" in kinds, _CONVERTERS, "float8.enable_float8_linear")
    formats = [_FORMATS[kind] for kind in kinds if kind in _FORMATS]
    if formats:
        config.state("product_format", " and ".join(dict.fromkeys(formats)), _CONVERTERS)
    if "qat" in kinds:
        config.state("fake_quantization", "qat", _CONVERTERS)
    if config.is_unknown(_CONVERTERS):
        config.unknown("product_format", "which converters change the model is not written here", _CONVERTERS)
    foreign = [word for word, kind in zip(words, kinds, strict=True) if kind not in (*_FORMATS, *_FOLLOWED)]
    if foreign:
        config.unknown("product_format", f"what the converter {foreign[0]} makes is not known", _CONVERTERS)


def _or(value: Plain, otherwise: str) -> str:
    return value if isinstance(value, str) and value else otherwise


def _optimizer(config: Config) -> None:
    name = config.text("optimizer.name") or "AdamW"
    how = config.text("optimizer.implementation") or "fused"
    if not config.given("optimizer.implementation") and config.given("optimizer.fused"):
        how = "fused" if config.on("optimizer.fused") else "foreach"
    config.state("optimizer", f"torch.optim.{name}{_IMPLEMENTATIONS.get(how, '')}", "optimizer.name")


def _batches(config: Config) -> None:
    total = config.integer("training.global_batch_size")
    if total is not None and total > 0:
        config.say("global_batch_size", "training.global_batch_size", "count")
    elif not config.say("gradient_accumulation_steps", "training.gradient_accumulation_steps", "count"):  # flame's
        config.derive("gradient_accumulation_steps", 1, "without global_batch_size every batch is a step")
    if config.on("validation.enable"):
        config.say("eval_micro_batch_size", "validation.local_batch_size", "count")
        if not config.given("validation.local_batch_size"):
            config.state("eval_micro_batch_size", 8, "validation.local_batch_size")


def _checkpointing(config: Config) -> None:
    """distributed/activation_checkpoint.py; `memory_budget` leaves it to the compiler what to keep."""
    mode = config.text("activation_checkpoint.mode") or "selective"
    config.derive("checkpointing_reentrant", False, "checkpoint_wrapper without reentrance")
    if mode == "memory_budget":
        reason = "within a memory budget the compiler decides what is kept"
        config.unknown("activation_checkpointing", reason, "activation_checkpoint.mode")
        return
    config.state("activation_checkpointing", mode != "none", "activation_checkpoint.mode")
    config.state("recompute", mode, "activation_checkpoint.mode")
    if config.default(_EARLY_STOP) is not None or config.given(_EARLY_STOP):
        config.state("checkpointing_early_stop", config.on(_EARLY_STOP), _EARLY_STOP)
    option = str(config.plain("activation_checkpoint.selective_ac_option") or "2")
    if mode == "selective" and option.isdecimal():
        config.state("checkpointing_every_n_layers", int(option), "activation_checkpoint.selective_ac_option")
    elif mode == "selective":
        config.state("checkpointing_selective", True, "activation_checkpoint.selective_ac_option")


def _sharing(config: Config) -> None:
    """distributed/parallel_dims.py: ranks that no other degree takes shard the model, unless that degree is 1."""
    degrees: dict[str, int] = {}
    for fact, tables, key in _DEGREES:
        keys = [f"{table}.{key}" for table in tables]
        written = next((key for key in keys if config.given(key)), keys[0])
        degree = config.integer(written)
        if degree is not None:
            config.state(fact, degree, *keys)
            degrees[fact] = degree
    ranks = prod(degrees.get(fact, 1) for fact in _RANKS)
    if degrees.get("data_parallel_shard", -1) > 0 and ranks > 1:
        config.derive("world_size", ranks, "the degrees multiply to the number of ranks", *_SHARD)
    split = degrees.get("tensor_parallel", 1) > 1
    reason = "plans of tensor parallelism split norms along the sequence" if split else "no tensor parallelism"
    config.derive("sequence_parallel", split, reason, "parallelism.tensor_parallel_degree")
    config.derive("divided_by", "dtensor", "parallelize_module with torchtitan's plans")
    config.state(
        "loss_parallel", not config.on("parallelism.disable_loss_parallel"), "parallelism.disable_loss_parallel"
    )
    if degrees.get("data_parallel_shard", -1) != 1:
        config.derive("sync_each_batch", True, "train.py reduces the gradients of every micro batch")
        config.derive("parallelism", "fsdp", "fully_shard wraps the model", *_SHARD)
        sharding = "shard_grad_op" if _keeps(config, degrees.get("pipeline_parallel", 1)) else "full_shard"
        sharding += " offload" if config.on("training.enable_cpu_offload") else ""
        config.derive("fsdp", sharding, "fully_shard wraps the model", _RESHARD, *_SHARD)
        config.derive("fsdp_version", 2, "fully_shard of torch", *_SHARD)
        config.state("fsdp_reduce_dtype", config.text(_REDUCED) or "float32", _REDUCED)
    if degrees.get("pipeline_parallel", 1) > 1:
        stages(config)
    offload = "cpu" if config.on("training.enable_cpu_offload") else "none"
    config.state("offload_parameters", offload, "training.enable_cpu_offload")


def _keeps(config: Config, stages: int) -> bool:
    """models/llama3/infra/parallelize.py, apply_fsdp: whether layers stay gathered behind their forward."""
    policy = config.text(_RESHARD) or "default"
    return policy == "never" or (policy == "default" and stages > 1)


FRAMEWORK = Framework(
    "torchtitan",
    "torchtitan",
    "torchtitan",
    _ROWS,
    _complete,
    chosen=chosen,
    prepared=in_older_words,
    spelled={"activation_checkpointing": spelled_checkpointing},
    spelled_beside={"gradient_accumulation_steps": spelled_accumulation},
    closed=frozenset(
        {
            "tuning",
            "quantization_bits",
            "optimizer",
            "fused_loss",
            "attention_implementation",
            "zero_stage",
            "sync_each_batch",
        }
    ),
)
