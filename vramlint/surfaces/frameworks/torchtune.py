"""torchtune's YAML (torchtune 0.1 to 0.7: recipes/*.py, config/_utils.py, _cli/run.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from vramlint.facts import FactValue
from vramlint.surfaces.frameworks.framework import Beside, Config, Framework, Gone, Held, Row
from vramlint.surfaces.frameworks.torchtune_command import COMPONENT, overlay, prepared, recipes_of, shipped
from vramlint.surfaces.frameworks.torchtune_models import DIMENSIONS, Named, model_type, named, network, scaled_width
from vramlint.surfaces.frameworks.torchtune_objectives import loss_of, objective, recipe_of
from vramlint.surfaces.launch.framework_programs import PROGRAM
from vramlint.values import Items, Plain, Scalar, Table, Value

_ROWS = (
    Row("batch_size", "micro_batch_size", "count"),
    Row("gradient_accumulation_steps", "gradient_accumulation_steps", "count"),
    Row("tokenizer.max_seq_len", "sequence_length", "count"),
    Row("dataset.max_seq_len", "sequence_length", "count"),
    Row("dtype", "load_dtype", "dtype"),
    Row("enable_activation_checkpointing", "activation_checkpointing", "flag"),
    Row("enable_activation_offloading", "activation_offloading", "flag"),
    Row("clip_grad_norm", "max_grad_norm", "number"),
    Row("optimizer.weight_decay", "weight_decay", "number"),
    Row("enable_fp8_training", "fp8", "flag"),
    Row("max_generated_tokens", "completion_length", "count"),
    Row("grpo_samples", "generations", "count"),
    Row("inference.group_size", "generations", "count"),
    Row("inference.max_generated_tokens", "completion_length", "count"),
    Row("loss.beta", "kl_coefficient", "number"),
    Row("loss.kl_coeff", "kl_coefficient", "number"),
    Row("kl_coeff", "kl_coefficient", "number"),
    Row("ppo_batch_size", "ppo_mini_batch_size", "count"),
    Row("model.image_size", "image_size", "count"),
)


_SHARED_KEYS = (
    "tensor_parallel_dim",
    "context_parallel_dim",
    "data_parallel_shard_dim",
    "data_parallel_replicate_dim",
    "fsdp_cpu_offload",
    "fsdp_reshard_after_forward",
    "custom_sharded_layers",
    "fsdp_sharding_strategy",
    "fsdp",
    "tensor_parallel_plan",
)
"""Keys that the recipes for several GPUs alone read."""
_DEGREES = (
    ("tensor_parallel_dim", "tensor_parallel"),
    ("context_parallel_dim", "context_parallel"),
    ("data_parallel_shard_dim", "data_parallel_shard"),
    ("data_parallel_replicate_dim", "data_parallel_replicate"),
)
_RINGS = frozenset({"full_finetune_distributed", "lora_finetune_distributed"})
_MODELS = ("model", "policy_model")
"""Where the model that trains stands: PPO's is the policy."""
_TARGETS = (("apply_lora_to_mlp", "mlp"), ("apply_lora_to_output", "output"))
_LORA = (("lora_rank", "lora_r", 8), ("lora_alpha", "lora_alpha", 16), ("lora_dropout", "lora_dropout", 0.0))
"""Arguments of `lora_*` builders, the facts that they say, and their defaults."""


def _complete(config: Config) -> None:
    if not any(config.given(key) for key in ("optimizer", "loss", "dataset")):
        config.derive("run_kind", "inference", "nothing is optimised", over=True)
    recipe = recipe_of(config)
    key = next((key for key in _MODELS if config.given(f"{key}.{COMPONENT}")), _MODELS[0])
    made = named(config.text(f"{key}.{COMPONENT}"))
    objective(config, recipe)
    _model(config, key, made)
    _adapters(config, key, made)
    _optimizer(config)
    loss_of(config)
    _batches(config)
    _checkpointing(config)
    _sharing(config, recipe)
    config.derive("loop", "plain", "the recipe's loop lets go of the model's output before backward")
    config.derive("use_cache", False, "key and value caches are for generation alone")


def _model(config: Config, key: str, made: Named) -> None:
    component = f"{key}.{COMPONENT}"
    if config.is_unknown(component) or not made.model:
        config.unknown("model", "the builder of the model is not written here", component)
        return
    config.state("model", made.model, component)
    if made.builder is None:
        return
    given = {entry.key: config.plain(f"{key}.{entry.key}") for entry in _table(config, key)}
    kind = model_type(made.builder)
    if kind:
        config.derive("model_type", kind, f"torchtune's {made.builder.component}", component)
    table = network(made.builder, given)
    if table is not None:
        config.draft.tables.append(("model-config", table))
    for argument, fact in DIMENSIONS.items():
        config.say(fact, f"{key}.{argument}", "count")
    width = given.get("embed_dim")
    if isinstance(width, int) and not {"intermediate_dim", "hidden_dim"} & (
        given.keys() | made.builder.arguments.keys()
    ):
        config.derive("intermediate_size", scaled_width(width), "scale_hidden_dim_for_mlp", f"{key}.embed_dim")


def _table(config: Config, key: str) -> Table:
    value = config.value(key)
    return value if isinstance(value, Table) else Table(())


def _adapters(config: Config, key: str, made: Named) -> None:
    component = f"{key}.{COMPONENT}"
    if not config.given("dtype"):
        config.derive("load_dtype", "float32", "without dtype the model has torch's default")
    dtype = config.fact("load_dtype")
    if dtype is not None and isinstance(dtype.value, str):
        config.derive("trainable_dtype", dtype.value, "what trains has the dtype of the weights", "dtype")
    quantized = made.quantized or config.on(f"{key}.quantize_base")
    if not made.adapted:
        config.state("tuning", "full", component)
        return
    config.state("tuning", "qlora" if quantized else "lora", component)
    config.derive("adapter_library", "torchtune", "torchtune's own layers", component)
    for argument, fact, default in _LORA:
        if not config.say(fact, f"{key}.{argument}", "number"):
            config.state(fact, default, f"{key}.{argument}")
    targets = [*config.words(f"{key}.lora_attn_modules")]
    targets += [name for argument, name in _TARGETS if config.on(f"{key}.{argument}")]
    config.state("lora_target_modules", tuple(targets), f"{key}.lora_attn_modules")
    config.state("use_dora", config.on(f"{key}.use_dora"), f"{key}.use_dora")
    if quantized:
        where = component if made.quantized else f"{key}.quantize_base"
        compute = dtype.value if dtype is not None and isinstance(dtype.value, str) else "bfloat16"
        config.derive("quantization_bits", 4, "the frozen base is NF4", where)
        config.derive("quantization_type", "nf4", "torchao's NF4Tensor", where)
        config.derive("double_quantization", True, "torchao quantizes NF4's scales", where)
        config.derive("quantization_compute_dtype", compute, "weights become the model's dtype again", where)
        config.derive("quantization_method", "torchao", "torchao's NF4Tensor", where)


def _optimizer(config: Config) -> None:
    key = f"optimizer.{COMPONENT}"
    name = config.text(key)
    if name:
        fused = config.plain("optimizer.fused") is True and name.startswith("torch.optim.")
        config.state("optimizer", f"{name}(fused=True)" if fused else name, key)
    if isinstance(config.value("optimizer_in_bwd"), Table):
        config.state("optimizer_in_backward", True, "optimizer_in_bwd")
    else:
        config.state("optimizer_in_backward", config.on("optimizer_in_bwd"), "optimizer_in_bwd")
    if not config.given("clip_grad_norm"):
        config.derive("max_grad_norm", 0.0, "clip_grad_norm is not given")


def _policy_batches(config: Config) -> None:
    """recipes/ppo_full_finetune_single_device.py: a step's trajectories in parts; `batch_size`: of a rollout."""
    size, parts = config.integer("ppo_batch_size"), config.integer("gradient_accumulation_steps") or 1
    if size is not None and size % parts == 0:
        reason = "ppo_batch_size / gradient_accumulation_steps"
        config.derive("micro_batch_size", size // parts, reason, "ppo_batch_size", over=True)
    config.say("global_batch_size", "batch_size", "count")


def _batches(config: Config) -> None:
    if config.given("policy_model"):
        _policy_batches(config)
    if config.fact("sequence_length") is None:
        why = "no max_seq_len: batches are padded to their longest sample"
        config.unknown("sequence_length", why, "tokenizer.max_seq_len")
    packed = config.on("dataset.packed") or any(
        _plain(item, "packed") is True for item in _items(config.value("dataset"))
    )
    config.state("packing", packed, "dataset.packed")
    if packed:
        config.derive("attention_implementation", "flex_attention", "rows are packed", "dataset.packed")
    else:
        config.derive("attention_implementation", "sdpa", "torchtune calls scaled_dot_product_attention")
    config.derive("padding", False, "no mask is passed: padding lies behind what is causal")
    if config.given("dataset_val"):
        config.say("eval_micro_batch_size", "batch_size_val", "count")
        size = config.integer("batch_size")
        if size is not None:
            config.derive("eval_micro_batch_size", size, "batch_size_val is batch_size unless given", "batch_size")
    compiled = config.value("compile")
    on = any(_on(entry.value) for entry in compiled) if isinstance(compiled, Table) else config.on("compile")
    config.state("torch_compile", on, "compile")


def _items(value: Value | None) -> tuple[Value, ...]:
    return value.values if isinstance(value, Items) else ()


def _plain(value: Value, key: str) -> object:
    found = value.get(key) if isinstance(value, Table) else None
    return found.value if isinstance(found, Scalar) else None


def _on(value: Value) -> bool:
    return isinstance(value, Scalar) and value.value is True


def _checkpointing(config: Config) -> None:
    """recipes/full_finetune_distributed.py: `ac_mode` leaves the whole-layer form to every n-th layer."""
    config.derive("checkpointing_reentrant", False, "torchtune's checkpoint wrapper is not reentrant")
    if config.on("enable_activation_offloading") and config.on("enable_activation_checkpointing"):
        reason = "what the forward keeps lies on the host: with checkpoints the inputs of layers"
        config.derive("checkpointing_offload", True, reason, "enable_activation_offloading")
    mode = config.text("ac_mode")
    if mode in ("full", "selective"):
        config.state("activation_checkpointing", True, "ac_mode", over=True)
        layers = config.integer("ac_option") if mode == "selective" else None
        if layers:
            config.state("checkpointing_every_n_layers", layers, "ac_option")


def _sharing(config: Config, recipe: str) -> None:
    """How GPUs share the run: recipes named `…_distributed` are FSDP 2's (training/_distributed.py, shard_model)."""
    if "single_device" in recipe or (recipe and "distributed" not in recipe):
        config.derive("parallelism", "none", f"the recipe {recipe} is one for a single device", PROGRAM)
        config.derive("world_size", 1, f"the recipe {recipe} is one for a single device", PROGRAM)
        return
    written = [key for key in _SHARED_KEYS if config.given(key)]
    if "distributed" not in recipe and not written:
        told = _named_for_several(config.path)
        if told:
            config.assume("parallelism", "fsdp", told)
        return
    reason = (
        f"the recipe {recipe} shards the model" if recipe else f"only recipes that shard the model read {written[0]}"
    )
    where = PROGRAM if recipe else written[0]
    config.derive("parallelism", "fsdp", reason, where)
    sharding = "full_shard offload" if config.on("fsdp_cpu_offload") else "full_shard"
    config.derive("fsdp", sharding, reason, where)
    config.derive("fsdp_version", 2, "fully_shard of torch", where)
    apart = bool(config.words("custom_sharded_layers"))
    config.derive("fsdp_layers_alone", not apart, "shard_model (training/_distributed.py)", "custom_sharded_layers")
    config.derive("sync_each_batch", True, "the recipe reduces the gradients of every micro batch")
    config.state("offload_parameters", "cpu" if config.on("fsdp_cpu_offload") else "none", "fsdp_cpu_offload")
    config.state("fsdp_reshard_after_forward", config.on("fsdp_reshard_after_forward"), "fsdp_reshard_after_forward")
    for key, fact in _DEGREES:
        degree = config.integer(key)
        if degree is not None and (degree > 0 or config.given(key)):
            config.state(fact, degree, key)
    _sequences(config, recipe)


def _named_for_several(path: str) -> str:
    """How the name of a file tells that a recipe for several GPUs reads it; empty where it does not."""
    listed = recipes_of(path)
    if listed:
        several = all("distributed" in name for name in listed)
        return f"the file is named like one of torchtune's for {listed[0]}" if several else ""
    words = path.replace("\\", "/").rpartition("/")[2].partition(".")[0].split("_")
    return "the file is named for a distributed recipe" if "distributed" in words else ""


def _sequences(config: Config, recipe: str) -> None:
    """Recipes that run under torch's `context_parallel` (torchtune 0.7 recipes/{full,lora}_finetune_distributed.py)."""
    tensor, context = config.integer("tensor_parallel_dim") or 1, config.integer("context_parallel_dim") or 1
    if context > 1 and tensor == 1 and (not recipe or recipe in _RINGS):
        reason = "torch's context_parallel stands in for the attention"
        config.derive("sequence_sharing", "ring", reason, "context_parallel_dim")


def _spelled_dtype(value: FactValue) -> Mapping[str, Plain] | None:
    word = {"bfloat16": "bf16", "float32": "fp32"}.get(str(value))
    return {"dtype": word} if word else None


def _spelled_flag(key: str) -> Callable[[FactValue], Mapping[str, Plain] | None]:
    return lambda value: {key: value} if isinstance(value, bool) else None


def _spelled_offload(value: FactValue) -> Mapping[str, Plain] | None:
    words = str(value).split()
    return {"fsdp_cpu_offload": "offload" in words} if words[:1] == ["full_shard"] else None


_OPTIMIZERS: Mapping[FactValue, str] = MappingProxyType(
    {"adamw_bnb_8bit": "bitsandbytes.optim.AdamW8bit", "paged_adamw_8bit": "bitsandbytes.optim.PagedAdamW8bit"}
)
_ADAMW = "torch.optim.AdamW"
_TORCHS = ("fused", "foreach", "capturable", "differentiable", "maximize")
"""Arguments of torch's AdamW alone (torch 2.13 optim/adamw.py)."""
_SHARED = frozenset({COMPONENT, "lr", "betas", "eps", "weight_decay", "amsgrad"})
"""Those that bitsandbytes' has too (bitsandbytes 0.50 optim/adamw.py)."""


def _spelled_optimizer(value: FactValue, beside: Beside) -> Mapping[str, Held] | None:
    """AdamW's fused update, or bitsandbytes' AdamW without the arguments that it does not take."""
    given = beside.table.get("optimizer")
    if not isinstance(given, Table):
        return None
    made = given.get(COMPONENT)
    names = {entry.key for entry in given}
    if value == "adamw_torch_fused" and isinstance(made, Scalar) and made.value == _ADAMW:
        return {"optimizer.fused": True}
    if value not in _OPTIMIZERS or not names <= {*_SHARED, *_TORCHS}:
        return None
    gone = {f"optimizer.{name}": Gone.KEY for name in _TORCHS if name in names}
    return {f"optimizer.{COMPONENT}": _OPTIMIZERS[value], **gone}


FRAMEWORK = Framework(
    "torchtune",
    "torchtune",
    "torchtune",
    _ROWS,
    _complete,
    spelled={
        "load_dtype": _spelled_dtype,
        "packing": _spelled_flag("dataset.packed"),
        "torch_compile": _spelled_flag("compile"),
        "optimizer_in_backward": _spelled_flag("optimizer_in_bwd"),
        "fsdp": _spelled_offload,
    },
    spelled_beside={"optimizer": _spelled_optimizer},
    packaged=shipped,
    overlay=overlay,
    prepared=prepared,
    closed=frozenset({"zero_stage", "fused_loss", "attention_implementation", "sync_each_batch"}),
)
