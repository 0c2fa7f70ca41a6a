"""OpenRLHF: options of `openrlhf.cli.train_*`, dotted since 0.10.2 (openrlhf 0.2 to 0.11).

utils/deepspeed/deepspeed.py and deepspeed_utils.py build DeepSpeed's configuration, models/actor.py loads the model.
What each program takes, and by which name at which release, is in its table `openrlhf-<program>.tsv`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.catalog.frameworks import framework_keys
from vramlint.patterns import lazy
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.frameworks.openrlhf_rl import complete_rl
from vramlint.surfaces.launch.framework_programs import PROGRAM
from vramlint.values import Entry, Scalar, Table

_PROGRAM = lazy(r"train_(\w+?)(?:_ray)?(?:\.py)?$")
_TABLES: Mapping[str, str] = MappingProxyType({"train_ppo": "ppo-local"})
"""Programs whose table goes by another name than they."""

_METHODS: Mapping[str, str] = MappingProxyType(
    {"sft": "sft", "dpo": "dpo", "rm": "reward", "kto": "kto", "kd": "kd", "prm": "prm"}
)

_ROWS = (
    Row("model.model_name_or_path", "model", "text"),
    Row("actor.model_name_or_path", "model", "text"),
    Row("pretrain", "model", "text"),
    Row("train.micro_batch_size", "micro_batch_size", "count"),
    Row("micro_train_batch_size", "micro_batch_size", "count"),
    Row("train.batch_size", "global_batch_size", "count"),
    Row("train_batch_size", "global_batch_size", "count"),
    Row("data.max_len", "sequence_length", "count"),
    Row("max_len", "sequence_length", "count"),
    Row("model.gradient_checkpointing_enable", "activation_checkpointing", "flag"),
    Row("actor.gradient_checkpointing_enable", "activation_checkpointing", "flag"),
    Row("gradient_checkpointing", "activation_checkpointing", "flag"),
    Row("model.gradient_checkpointing_reentrant", "checkpointing_reentrant", "flag"),
    Row("actor.gradient_checkpointing_reentrant", "checkpointing_reentrant", "flag"),
    Row("gradient_checkpointing_use_reentrant", "checkpointing_reentrant", "flag"),
    Row("ds.zero_stage", "zero_stage", "count"),
    Row("zero_stage", "zero_stage", "count"),
    Row("ds.grad_accum_dtype", "gradient_accumulation_dtype", "text"),
    Row("grad_accum_dtype", "gradient_accumulation_dtype", "text"),
    Row("ds.use_liger_kernel", "liger", "flag"),
    Row("use_liger_kernel", "liger", "flag"),
    Row("ds.packing_samples", "packing", "flag"),
    Row("packing_samples", "packing", "flag"),
    Row("ds.experts_implementation", "experts_implementation", "text"),
    Row("max_norm", "max_grad_norm", "number"),
    Row("actor.max_norm", "max_grad_norm", "number"),
    Row("model.label_smoothing", "label_smoothing", "number"),
    Row("label_smoothing", "label_smoothing", "number"),
    Row("torch_compile", "torch_compile", "flag"),
)

_DTYPES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"bf16": ("bfloat16", "bf16"), "fp16": ("float16", "fp16"), "fp32": ("float32", "")}
)
"""`param_dtype`: dtype of the weights, and the engine of DeepSpeed that is switched on."""


def _keys_of(table: Table) -> str:
    """The table of the program that is started: train_ppo_ray and its like have `ppo`."""
    value = table.get(PROGRAM)
    words = value.value if isinstance(value, Scalar) and isinstance(value.value, str) else ""
    name = words.replace("/", ".").removesuffix(".py").rpartition(".")[2]
    match = _PROGRAM.search(name)
    return f"openrlhf-{_TABLES.get(name, match[1])}" if match else "openrlhf-sft"


def _complete(config: Config) -> None:
    method = config.keys.removeprefix("openrlhf-")
    config.derive("loop", "script", "OpenRLHF's trainers compute their own loss")
    _weights(config)
    _adapters(config)
    _engine(config)
    if method.startswith("ppo"):
        complete_rl(config)
    else:
        config.by_program("objective", _METHODS.get(method, method))
        _reference(config)
    packed = config.fact("packing")
    if packed is None:
        key = spelling(config, "ds.packing_samples", "packing_samples")
        config.state("packing", config.on(key), key)
    elif packed.value is True:
        config.derive("padding_free", True, "FlashAttention takes the samples of a row apart", packed.key)
    for fact, new, old in (
        ("context_parallel", "ds.ring_attn_size", "ring_attn_size"),
        ("tensor_parallel", "ds.tensor_parallel_size", "ds_tensor_parallel_size"),
    ):
        key = spelling(config, new, old)
        size = config.integer(key)
        if size is not None and size > 1:
            config.state(fact, size, key)
    _sequences(config)
    config.derive("torch_compile", False, "nothing compiles the model")
    config.derive("trust_remote_code", True, "OpenRLHF loads models with their own code")
    if config.fact("liger") is not None:
        config.derive("liger_fused_head", False, "the loss is computed from logits, without labels for Liger's head")


def spelling(config: Config, *keys: str) -> str:
    """The key that is written, else the one that the release has: options were renamed."""
    rows = framework_keys(config.keys)
    held = (key for key in keys if any(row.holds_in(config.release) for row in rows.get(key, ())))
    return next((key for key in keys if config.given(key)), next(held, keys[0]))


def _weights(config: Config) -> None:
    """dtype, attention and quantization, as models/actor.py loads them."""
    key = spelling(config, "ds.param_dtype", "param_dtype", "data_type", "bf16")
    if key == "bf16":  # before 0.9.2 a flag, without which the checkpoint's dtype is kept and nothing is cast
        on = config.on(key)
        config.state("load_dtype", "bfloat16" if on else "auto", key)
        config.state("bf16", on, key)
        if on:
            config.state("precision", "bf16-mixed", key)
    else:
        dtype, engine = _DTYPES.get(config.text(key) or "bf16", ("bfloat16", "bf16"))
        config.state("load_dtype", dtype, key)
        for flag in ("bf16", "fp16"):
            config.state(flag, engine == flag, key)
        config.state("precision", f"{engine}-mixed" if engine else "fp32", key)
    attention = spelling(config, "ds.attn_implementation", "attn_implementation", "flash_attn")
    if attention == "flash_attn":
        packed = config.on("packing_samples")
        on = config.on("flash_attn") or packed
        config.state("attention_implementation", "flash_attention_2" if on else "eager", "flash_attn")
    elif not config.say("attention_implementation", attention, "name"):
        config.state("attention_implementation", config.text(attention) or "flash_attention_2", attention)
    four = spelling(config, "ds.load_in_4bit", "load_in_4bit")
    on = config.on(four)
    config.state("quantization_bits", 4 if on else 16, four)
    if on:
        config.derive("quantization_type", "nf4", "OpenRLHF's BitsAndBytesConfig", four)
        config.derive("double_quantization", True, "OpenRLHF's BitsAndBytesConfig", four)
        config.derive("quantization_compute_dtype", "bfloat16", "OpenRLHF's BitsAndBytesConfig", four)


def _adapters(config: Config) -> None:
    rank = spelling(config, "ds.lora.rank", "lora_rank")
    if not config.integer(rank):
        config.state("tuning", "full", rank)
        return
    config.state("tuning", "lora", rank)
    config.say("lora_r", rank, "count")
    for fact, new, old, converter, otherwise in (
        ("lora_alpha", "ds.lora.alpha", "lora_alpha", "number", 16),
        ("lora_dropout", "ds.lora.dropout", "lora_dropout", "number", 0.0),
        ("lora_target_modules", "ds.lora.target_modules", "target_modules", "names", "all-linear"),
    ):
        key = spelling(config, new, old)
        if not config.say(fact, key, converter):
            value = config.plain(key)
            config.state(fact, otherwise if value is None else value, key)


def _sequences(config: Config) -> None:
    """The rings of ring-flash-attn, which packed samples alone go round (utils/deepspeed, setup_ring_attn)."""
    size = spelling(config, "ds.ring_attn_size", "ring_attn_size")
    packed, objective = config.fact("packing"), config.fact("objective")
    if (config.integer(size) or 1) == 1 or packed is None or packed.value is not True:
        return
    if objective is None or objective.value != "sft":
        return
    stride = spelling(config, "ds.ring_attn_head_stride", "ring_head_stride")
    config.say("sequence_head_stride", stride, "count")
    reason = "ring-flash-attn's llama3_flash_attn_varlen_func stands in for flash attention"
    config.derive("sequence_sharing", "flash-gather", reason, size)


_EMPTY = Table((Entry("zero_optimization", None, Table(())),))
"""That DeepSpeed is configured, and with defaults: "auto" is dropped by it, and all else is said as facts."""


def _engine(config: Config) -> None:
    """DeepSpeed's configuration (deepspeed_utils.py, get_train_ds_config)."""
    config.derive("parallelism", "deepspeed", "OpenRLHF trains with DeepSpeed")
    config.draft.tables.append(("deepspeed", _EMPTY))
    offload = spelling(config, "ds.adam_offload", "adam_offload")
    on = config.on(offload)
    config.state("offload_optimizer", "cpu" if on else "none", offload)
    overlap = spelling(config, "ds.overlap_comm", "overlap_comm")
    if config.on(overlap):  # left out of the configuration otherwise, so that DeepSpeed's own default holds
        config.state("overlap_comm", True, overlap)
    config.derive("offload_parameters", "none", "OpenRLHF offloads no parameters of what it trains")
    key = next((key for key in ("optim", "actor.optim") if framework_keys(config.keys).get(key)), "optim")
    word = config.text(key) or "adam"
    if word == "adam":
        config.state("optimizer", "deepspeed_cpu_adam" if on else "deepspeed_adamw", key, offload)
    else:
        config.state("optimizer", f"deepspeed_{word}", key)


def _reference(config: Config) -> None:
    """DPO and KTO load a second model, also beside adapters; distillation a teacher."""
    if config.keys not in ("openrlhf-dpo", "openrlhf-kto"):
        return
    own = spelling(config, "ref.model_name_or_path", "ref_pretrain")
    model = config.fact("model")
    if not config.say("reference_model", own, "text") and model is not None and isinstance(model.value, str):
        config.state("reference_model", model.value, own)
    offload = spelling(config, "ref.offload", "ref_offload")
    config.state("offload_reference", "cpu" if config.on(offload) else "none", offload)
    beta = spelling(config, "model.beta", "beta")
    if not config.say("kl_coefficient", beta, "number"):
        config.state("kl_coefficient", config.plain(beta), beta)


FRAMEWORK = Framework(
    "openrlhf", "OpenRLHF", "openrlhf", _ROWS, _complete, loose=False, keys_of=_keys_of, commands_only=True
)
