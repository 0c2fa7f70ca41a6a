"""llm-foundry's YAML (mosaicml/llm-foundry@8c8dd48, 0.22: llmfoundry/command_utils/train.py; composer 0.30).

OmegaConf: `variables` and `${…}`; older files have variables of their own at the root. The parameters of an mcli run
are such a file too.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.frameworks.interpolation import interpolated
from vramlint.surfaces.frameworks.llm_foundry_models import define_model
from vramlint.values import Scalar, Table

_ROWS = (
    Row("model.pretrained_model_name_or_path", "model", "text"),
    Row("model.name", "model", "text"),
    Row("model.n_layers", "layers", "count"),
    Row("model.d_model", "hidden_size", "count"),
    Row("model.n_heads", "attention_heads", "count"),
    Row("model.vocab_size", "vocabulary_size", "count"),
    # Composer's BERTs (mosaicml/examples benchmarks/bert, AnswerDotAI/ModernBERT): transformers' words under the model
    Row("model.model_config.num_hidden_layers", "layers", "count"),
    Row("model.model_config.hidden_size", "hidden_size", "count"),
    Row("model.model_config.num_attention_heads", "attention_heads", "count"),
    Row("model.model_config.intermediate_size", "intermediate_size", "count"),
    Row("model.max_seq_len", "sequence_length", "count"),
    Row("max_seq_len", "sequence_length", "count"),
    Row("device_eval_microbatch_size", "eval_micro_batch_size", "count"),
    Row("device_eval_batch_size", "eval_micro_batch_size", "count"),
    Row("global_train_batch_size", "global_batch_size", "count"),
    Row("optimizer.name", "optimizer", "name"),
    Row("optimizer.weight_decay", "weight_decay", "number"),
    Row("algorithms.gradient_clipping.clipping_threshold", "max_grad_norm", "number"),
    Row("fsdp_config.activation_checkpointing", "activation_checkpointing", "flag"),
    Row("fsdp_config.activation_checkpointing_reentrant", "checkpointing_reentrant", "flag"),
    Row("fsdp_config.activation_cpu_offload", "activation_offloading", "flag"),
    Row("fsdp_config.use_orig_params", "fsdp_use_orig_params", "flag"),
    Row("fsdp_config.data_parallel_shard_degree", "data_parallel_shard", "count"),
    Row("fsdp_config.data_parallel_replicate_degree", "data_parallel_replicate", "count"),
    Row("tp_config.tensor_parallel_degree", "tensor_parallel", "count"),
    Row("model.peft_config.r", "lora_r", "count"),
    Row("model.peft_config.lora_alpha", "lora_alpha", "number"),
    Row("model.peft_config.lora_dropout", "lora_dropout", "number"),
    Row("model.peft_config.target_modules", "lora_target_modules", "names"),
    Row("model.peft_config.modules_to_save", "lora_modules_to_save", "names"),
    Row("model.peft_config.use_rslora", "use_rslora", "flag"),
    Row("model.peft_config.use_dora", "use_dora", "flag"),
    Row("lora.args.r", "lora_r", "count"),
    Row("lora.args.lora_alpha", "lora_alpha", "number"),
    Row("lora.args.lora_dropout", "lora_dropout", "number"),
    Row("lora.args.target_modules", "lora_target_modules", "names"),
)

_PRECISIONS: Mapping[str, str] = MappingProxyType(
    {"amp_bf16": "bf16-mixed", "amp_fp16": "fp16-mixed", "amp_fp8": "bf16-mixed", "fp32": "fp32", "bf16": "bf16-pure"}
)
"""composer/core/precision.py; FP8 computes what it does not quantize in bfloat16."""

_DTYPES: Mapping[str, str] = MappingProxyType(
    {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    | {word: word for word in ("float32", "bfloat16", "float16")}
)
"""`model.master_weights_dtype` (llmfoundry/utils/builders.py, build_composer_model)."""

_PEFT = ("model.peft_config", "lora")
_FSDP = "fsdp_config"
_MICRO = "device_train_microbatch_size"


def prepared(table: Table) -> Table:
    """What `train` gets: the parameters of an mcli run, every `${…}` resolved."""
    parameters = table.get("parameters")
    root = parameters if isinstance(parameters, Table) and parameters.entries else table
    return interpolated(root)


def _complete(config: Config) -> None:
    if config.given("models") or not (config.given("optimizer") or config.given("train_loader") or config.command):
        config.derive("run_kind", "inference", "scripts/eval evaluates models", "models", over=True)
    config.derive("loop", "plain", "Composer has a training loop of its own")
    tuned = any(map(config.given, _PEFT))
    kind = config.text("model.peft_config.peft_type").lower()
    config.state("tuning", (kind or "lora") if tuned else "full", *_PEFT)
    define_model(config)
    config.also(
        "sequence_length", "max_seq_len", "train_loader.dataset.max_seq_len", "tokenizer.kwargs.model_max_length"
    )
    _precision(config)
    _sharding(config)
    _batch(config)
    config.state("torch_compile", config.given("compile_config"), "compile_config")
    _allocator(config)


def _precision(config: Config) -> None:
    word = config.text("precision")
    precision = _PRECISIONS.get(word, word)
    config.state("precision", precision, "precision")
    for flag in ("bf16", "fp16"):
        config.derive(flag, precision == f"{flag}-mixed", "by the precision")
    if word == "amp_fp8":
        config.state("fp8", True, "precision")
    weights = config.text("model.master_weights_dtype")
    config.state("load_dtype", _DTYPES.get(weights, "float32"), "model.master_weights_dtype")


def _sharding(config: Config) -> None:
    if not config.given(_FSDP):
        config.state("activation_checkpointing", False, "fsdp_config.activation_checkpointing")
        if (config.gpus() or 1) > 1:
            config.derive("parallelism", "ddp", "Composer shares the data alone without an fsdp_config")
        return
    strategy = config.text("fsdp_config.sharding_strategy") or "FULL_SHARD"
    key = "fsdp_config.sharding_strategy"
    config.state("fsdp", strategy.lower(), key if config.given(key) else _FSDP)
    if config.gpus() == 1:
        config.derive("parallelism", "none", "Composer leaves FSDP out on one GPU", _FSDP)
    else:
        config.derive("parallelism", "fsdp", "fsdp_config is set", _FSDP)
    # composer/distributed/dist_strategy.py, ddp_sync_context, which leaves out what is no DistributedDataParallel
    config.derive("sync_each_batch", True, "Composer reduces FSDP's gradients after every micro batch", _FSDP)
    mixed = config.text("fsdp_config.mixed_precision")
    if mixed or not config.given("fsdp_config.mixed_precision"):
        config.state("fsdp_mixed_precision", mixed or "DEFAULT", "fsdp_config.mixed_precision")
    config.state("activation_checkpointing", False, "fsdp_config.activation_checkpointing")
    config.state("activation_offloading", False, "fsdp_config.activation_cpu_offload")
    if config.on("fsdp_config.activation_checkpointing"):
        config.state("checkpointing_reentrant", True, "fsdp_config.activation_checkpointing_reentrant")


def _batch(config: Config) -> None:
    """The micro batch, and how many of them a global batch makes on every GPU."""
    value = config.value(_MICRO)
    total, gpus = config.integer("global_train_batch_size"), config.gpus()
    share = max(total // gpus, 1) if total and gpus else total
    if value is None or (isinstance(value, Scalar) and value.value == "auto"):
        reason = "auto: Composer halves the batch of a GPU until it fits"
        sizes = (1, share) if share and share > 1 else (1,) if share else ()
        candidates = tuple([Candidate(size, config.place(_MICRO)) for size in sizes])
        origin = Origin.DERIVED if sizes else Origin.UNKNOWN
        config.draft.put(Fact("micro_batch_size", candidates, origin, _MICRO, "code", reason=reason))
        config.unknown("gradient_accumulation_steps", reason, _MICRO)
        config.derive("batch_adapts", True, reason, _MICRO)
        return
    config.say("micro_batch_size", _MICRO, "count")
    micro = config.integer(_MICRO)
    if share and micro and gpus:
        steps = max(-(-share // micro), 1)
        reason = "global batch size / (micro batch size · GPUs)"
        config.derive("gradient_accumulation_steps", steps, reason, "global_train_batch_size")
    else:
        config.unknown("gradient_accumulation_steps", "the number of GPUs decides it", "global_train_batch_size")


def _allocator(config: Config) -> None:
    words = ["expandable_segments:True"] if config.on("expandable_segments") else []
    split = config.integer("max_split_size_mb")
    words += [f"max_split_size_mb:{split}"] if split else []
    if words:
        config.state("allocator_settings", ",".join(words), "expandable_segments", "max_split_size_mb")


def located(table: Table, key: str) -> str:
    """A key of the file, below `parameters` in that of an mcli run."""
    parameters = table.get("parameters")
    return f"parameters.{key}" if isinstance(parameters, Table) and parameters.entries else key


FRAMEWORK = Framework(
    "llm-foundry",
    "llm-foundry",
    "llm-foundry",
    _ROWS,
    _complete,
    prepared=prepared,
    located=located,
    spelled={"micro_batch_size": lambda value: {_MICRO: value} if isinstance(value, int) else None},
    follows=frozenset({"gradient_accumulation_steps"}),
    closed=frozenset(
        {"quantization_bits", "fused_loss", "load_dtype", "attention_implementation", "sync_each_batch", "zero_stage"}
    ),
)
