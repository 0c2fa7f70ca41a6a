"""qlora-pipe's TOML (tdrussell/qlora-pipe, train.py, models/models.py, utils/dataloader.py)."""

from __future__ import annotations

from msgspec.structs import replace

from vramlint.catalog.models import find_model_by_last_part
from vramlint.facts import Fact
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import draw
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.values import Items, Scalar, Table

_ROWS = (
    Row("micro_batch_size_per_gpu", "micro_batch_size", "count"),
    Row("gradient_accumulation_steps", "gradient_accumulation_steps", "count"),
    Row("gradient_clipping", "max_grad_norm", "number"),
    Row("batch_size_tokens", "tokens_per_batch", "count"),
    Row("pipeline_stages", "pipeline_parallel", "count"),
    Row("activation_checkpointing", "activation_checkpointing", "switch"),
    Row("model_weight_dtype", "load_dtype", "dtype"),
    Row("attn_implementation", "attention_implementation", "text"),
    Row("optimizer.weight_decay", "weight_decay", "number"),
)
_LORA = (
    ("lora_rank", "lora_r", "count"),
    ("lora_alpha", "lora_alpha", "number"),
    ("lora_dropout", "lora_dropout", "number"),
    ("target_modules", "lora_target_modules", "names"),
    ("modules_to_save", "lora_modules_to_save", "names"),
    ("use_dora", "use_dora", "flag"),
)
_BNB = "quantization.bnb"
_HQQ = "quantization.hqq"
_QUANTIZED = (
    ("bnb_4bit_quant_type", "quantization_type", "text"),
    ("bnb_4bit_use_double_quant", "double_quantization", "flag"),
    ("bnb_4bit_compute_dtype", "quantization_compute_dtype", "dtype"),
)
_OPTIMIZERS = {"adamw": "ds:AdamW", "adamw8bit": "adamw_bnb_8bit", "adamw_kahan": "adamw_kahan"}
"""`optimizer.type` in lower case: DeepSpeed's FusedAdam, bitsandbytes, optimi.AdamW with its compensation."""
_HIDDEN_STATES_AWAY = ("unsloth", "cpu")
"""Values of `activation_checkpointing` that keep what it saves in host memory."""


def _complete(config: Config) -> None:
    _model(config)
    config.derive("loop", "script", "qlora-pipe trains with an engine of its own over DeepSpeed's")
    method = config.text("rl.method")
    config.state("objective", method or "sft", "rl.method")
    if method:
        config.say("kl_coefficient", "rl.dpo_beta", "number")
    adapts = not config.on("full_fine_tune")
    bits = _quantization(config)
    _tuning(config, adapts=adapts, bits=bits)
    kind = config.text("optimizer.type")
    if kind:
        config.state("optimizer", _OPTIMIZERS.get(kind.lower(), kind), "optimizer.type")
    if config.text("activation_checkpointing") in _HIDDEN_STATES_AWAY:
        config.derive("checkpointing_offload", True, "what it keeps waits on the host", "activation_checkpointing")
    config.derive("checkpointing_reentrant", True, "offloading of MLPs needs it, and DeepSpeed's own is")
    _length(config)


def _model(config: Config) -> None:
    """The last part of a path, where the catalog knows a model of that name; else the path, for its config.json."""
    path = config.text("model")
    last = path.replace("\\\\", "/").rstrip("/").rpartition("/")[2]
    known = path.startswith(("/", "~")) and last and find_model_by_last_part(last)
    if path:
        config.state("model", last if known else path, "model")


def _tuning(config: Config, *, adapts: bool, bits: int) -> None:
    if not adapts:
        config.state("tuning", "full", "full_fine_tune")
        return
    config.state("tuning", "qlora" if bits == 4 else "lora", f"{_BNB}.load_in_4bit", f"{_HQQ}.nbits", "lora_rank")
    for key, fact, converter in _LORA:
        config.say(fact, key, converter)
    config.state("lora_target_modules", "all-linear", "target_modules")
    config.state("lora_dropout", 0, "lora_dropout")
    config.say("trainable_dtype", "lora_weight_dtype", "dtype")
    config.state("trainable_dtype", "float32", "lora_weight_dtype")


def _quantization(config: Config) -> int:
    """The bits of a weight, with what goes with them."""
    if config.given(_BNB):
        for key, fact, converter in _QUANTIZED:
            config.say(fact, f"{_BNB}.{key}", converter)
        bits = 4 if config.on(f"{_BNB}.load_in_4bit") else 8 if config.on(f"{_BNB}.load_in_8bit") else 16
        config.state("quantization_bits", bits, f"{_BNB}.load_in_4bit", f"{_BNB}.load_in_8bit")
        if bits == 4:
            config.derive("quantization_type", "nf4", "qlora-pipe fills nf4 in where no type is given")
        return bits
    if config.given(_HQQ):
        bits = config.integer(f"{_HQQ}.nbits") or 4
        config.state("quantization_bits", bits, f"{_HQQ}.nbits")
        config.state("quantization_method", "hqq", f"{_HQQ}.nbits")
        config.state("quantization_type", "hqq", f"{_HQQ}.nbits")
        config.say("quantization_group_size", f"{_HQQ}.group_size", "count")
        config.say("quantization_compute_dtype", f"{_HQQ}.compute_dtype", "dtype")
        return bits
    return 16


def _length(config: Config) -> None:
    """The longest of the data sets' bounds."""
    sets = config.value("datasets")
    tables = [item for item in sets.values if isinstance(item, Table)] if isinstance(sets, Items) else []
    bounds = [value for table in tables if isinstance(value := table.get("sequence_len"), Scalar)]
    numbers = [value for value in bounds if isinstance(value.value, int)]
    if numbers:
        longest = max(numbers, key=lambda item: int(item.value or 0))
        drawn = draw("sequence_length", longest, CONVERTERS["count"], "datasets.sequence_len")
        config.draft.put(replace(drawn, via="config-file") if isinstance(drawn, Fact) else drawn)


FRAMEWORK = Framework(
    "qlora-pipe", "qlora-pipe", "", _ROWS, _complete, spelled={"model": lambda value: {"model": str(value)}}
)
