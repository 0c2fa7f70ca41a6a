"""Axolotl's YAML: utils/schemas/*.py, utils/config/__init__.py and loaders/model.py of axolotl 0.18.

Rows say what a key means by itself; the functions below follow what Axolotl computes from several keys. Sharding is in
`axolotl_sharding.py`, what is optimised in `axolotl_objectives.py`, losses and kernels in `axolotl_kernels.py`, what
stays in float32 in `axolotl_widening.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from msgspec.structs import replace

from vramlint.surfaces.frameworks.axolotl_attention import attention, spelled_attention
from vramlint.surfaces.frameworks.axolotl_kernels import kernels, spelled_liger
from vramlint.surfaces.frameworks.axolotl_objectives import objective
from vramlint.surfaces.frameworks.axolotl_sharding import sharding, shipped
from vramlint.surfaces.frameworks.axolotl_spelling import spelled_bits, spelled_rank, spelled_targets, spelled_tuning
from vramlint.surfaces.frameworks.axolotl_widening import widened
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.hardware import by_bfloat16
from vramlint.surfaces.overrides import DIMENSIONS
from vramlint.values import Entry, Items, Scalar, Table

_ROWS = (
    Row("base_model", "model", "text"),
    Row("trust_remote_code", "trust_remote_code", "flag"),
    Row("sequence_len", "sequence_length", "count"),
    Row("micro_batch_size", "micro_batch_size", "count"),
    Row("gradient_accumulation_steps", "gradient_accumulation_steps", "count"),
    Row("max_steps", "max_steps", "count"),
    Row("eval_batch_size", "eval_micro_batch_size", "count"),
    Row("optimizer", "optimizer", "name"),
    Row("gradient_checkpointing", "activation_checkpointing", "switch"),
    Row("attn_implementation", "attention_implementation", "text"),
    Row("max_grad_norm", "max_grad_norm", "number"),
    Row("weight_decay", "weight_decay", "number"),
    Row("optim_target_modules", "optimizer_target_modules", "names"),
    Row("fp8", "fp8", "flag"),
    Row("torch_compile", "torch_compile", "switch"),
    Row("image_size", "image_size", "count"),
    Row("experts_implementation", "experts_implementation", "text"),
)

_ADAPTER_ROWS = (
    Row("lora_r", "lora_r", "count"),
    Row("lora_alpha", "lora_alpha", "number"),
    Row("lora_dropout", "lora_dropout", "number"),
    Row("lora_modules_to_save", "lora_modules_to_save", "names"),
    Row("lora_exclude_modules", "lora_exclude_modules", "names"),
    Row("lora_target_parameters", "lora_target_parameters", "names"),
    Row("lora_rank_pattern", "lora_rank_pattern", "pairs"),
    Row("peft_use_dora", "use_dora", "flag"),
    Row("peft_use_rslora", "use_rslora", "flag"),
    Row("peft_layers_to_transform", "lora_layers", "numbers"),
    Row("peft_trainable_token_indices", "trained_tokens", "tokens"),
    Row("peft_autocast_adapter_dtype", "adapter_cast", "flag"),
)
"""Keys that only an adapter of LoRA's kind makes effective (loaders/adapter.py, _build_peft_lora_config)."""

_NOT_LINEAR = frozenset({"embed_tokens", "lm_head", "wte", "embed_in", "embed_out", "word_embeddings"})
"""Modules that `lora_target_linear` leaves out: embeddings and the output head (loaders/adapter.py)."""
_DECODER_LINEAR = frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})
"""The linear layers of Llama's and the like."""
_LORA = ("lora", "qlora")
_METHODS: Mapping[str, str] = MappingProxyType({"llama-adapter": "adaption_prompt"})
"""Other adapters by the name of PEFT's config."""


def _complete(config: Config) -> None:
    objective(config)
    _adapter(config)
    _precision(config)
    _quantization(config)
    _overrides(config)
    _batch(config)
    _evaluation(config)
    attention(config)
    _checkpointing(config)
    _optimizer(config)
    sharding(config)
    kernels(config)
    widened(config)


def _adapter(config: Config) -> None:
    adapter = config.text("adapter")
    config.state("tuning", _METHODS.get(adapter, adapter) or "full", "adapter")
    if adapter in _LORA:
        for row in _ADAPTER_ROWS:
            config.say(row.fact, row.key, row.converter)
        config.state("lora_dropout", config.plain("lora_dropout") or 0.0, "lora_dropout")
        if config.on("lora_target_linear") and not _names_all(config):
            config.state("lora_target_modules", "all-linear", "lora_target_linear")
        config.say("lora_target_modules", "lora_target_modules", "names")
        if config.given("peft_layer_replication"):
            config.state("lora_variants", ("layer_replication",), "peft_layer_replication")
    elif not adapter:
        _unfrozen(config)


def _names_all(config: Config) -> bool:
    """Whether `lora_target_modules` has the linear layers and more, which `lora_target_linear` adds to it.

    The other way round the linear layers are all that there is (loaders/adapter.py, load_lora).
    """
    named = frozenset(config.words("lora_target_modules"))
    return bool(named & _NOT_LINEAR) and named >= _DECODER_LINEAR


def _unfrozen(config: Config) -> None:
    """`unfrozen_parameters`: all others are frozen, by a match at the start of the name (utils/freeze.py)."""
    value = config.value("unfrozen_parameters")
    if isinstance(value, Items):
        patterns = [re.sub(r"\[[0-9]*(?::[0-9]*)?\]$", "", word) for word in config.words("unfrozen_parameters")]
        kept = "|".join(re.sub(r"\.(?!\+)", r"\.", pattern.replace("\\.", ".")) for pattern in patterns)
        if kept:
            config.state("frozen_parameters", (f"^(?!{kept})",), "unfrozen_parameters")


def _quantization(config: Config) -> None:
    """4 bits with `qlora` alone, 8 bits with `lora` alone (loaders/model.py, _set_quantization_config)."""
    adapter = config.text("adapter")
    asked = [key for key in ("load_in_4bit", "load_in_8bit") if config.on(key)]
    if adapter == "qlora" and "load_in_4bit" in asked:
        config.state("quantization_bits", 4, "load_in_4bit")
        _four_bits(config)
    elif adapter == "lora" and "load_in_8bit" in asked:
        config.state("quantization_bits", 8, "load_in_8bit")
        config.derive("quantization_type", "int8", "LLM.int8()", "load_in_8bit")
    elif config.text("model_quantization_config"):
        _stored(config)
    elif asked:
        reason = f"{asked[0]} has no effect with adapter {adapter or 'none'}"
        config.derive("quantization_bits", 16, reason, asked[0])
    if asked and adapter in _LORA:
        if config.on("quantize_moe_experts"):
            config.state("quantized_experts", True, "quantize_moe_experts")
        reason = "norms, embeddings and the head get the dtype of the weights again after the preparation"
        config.derive("prepared_for_kbit", False, reason)
    if isinstance(config.value("qat"), Table) and not config.say("fake_quantization", "qat.weight_dtype", "text"):
        config.state("fake_quantization", "int8", "qat")


_STORED: Mapping[str, tuple[str, int]] = MappingProxyType(
    {"Mxfp4Config": ("mxfp4", 4), "FineGrainedFP8Config": ("fp8", 8)}
)
"""`model_quantization_config`: type and bits of the checkpoint."""


def _stored(config: Config) -> None:
    key = "model_quantization_config_kwargs.dequantize"
    kind, bits = _STORED.get(config.text("model_quantization_config"), ("", 0))
    if config.on(key):
        config.derive("quantization_bits", 16, f"the {kind} checkpoint is expanded while it is loaded", key)
    elif kind:
        config.state("quantization_bits", bits, "model_quantization_config")
        config.state("quantization_type", kind, "model_quantization_config")


_FOUR_BIT_KEYS = (
    ("bnb_4bit_quant_type", "quantization_type", "text"),
    ("bnb_4bit_use_double_quant", "double_quantization", "flag"),
    ("bnb_4bit_compute_dtype", "quantization_compute_dtype", "dtype"),
    ("bnb_4bit_quant_storage", "quantization_storage_dtype", "dtype"),
    ("llm_int8_skip_modules", "quantization_skip_modules", "names"),
)


def _four_bits(config: Config) -> None:
    dtype = config.fact("load_dtype")
    for key, fact, converter in _FOUR_BIT_KEYS:
        config.say(fact, f"bnb_config_kwargs.{key}", converter)
    config.state("quantization_type", "nf4")
    config.state("double_quantization", True)
    config.state("quantization_storage_dtype", "bfloat16")
    if dtype is not None:
        reason = "bitsandbytes multiplies in the dtype that the weights are loaded in"
        config.draft.put(replace(dtype, name="quantization_compute_dtype", reason=reason))


def _is_null(config: Config, key: str) -> bool:
    """Whether a key stands there without a value, which switches its default off."""
    return not config.given(key) and config.table.entry(key) is not None


def _precision(config: Config) -> None:
    """`bf16: auto` asks the GPU; the weights follow (utils/config/__init__.py, resolve_dtype)."""
    dtype = "model_quantization_config_kwargs.dequantize"
    bf16 = None if _is_null(config, "bf16") else config.plain("bf16")
    if config.is_unknown("bf16"):
        for fact in ("bf16", "load_dtype"):
            config.state(fact, None, "bf16")
        return
    halves = ("load_in_8bit", "fp16", "float16")
    half = next((key for key in halves if config.on(key)), "")
    if bf16 == "auto" and not config.on("fp16") and not config.on("bfloat16"):
        falls_back = not config.given("fp16") and not config.on("float16")
        reason = "bf16 is auto: the GPU decides"
        place = config.place("bf16")
        config.draft.take(
            (
                by_bfloat16("bf16", True, False, reason, "bf16", place),
                by_bfloat16("fp16", False, falls_back, reason, "bf16", place),
                by_bfloat16(
                    "load_dtype", "bfloat16", "float16" if falls_back or half else "float32", reason, "bf16", place
                ),
            )
        )
        return
    on = bool(bf16) and bf16 != "auto"
    key = "bfloat16" if not on and config.on("bfloat16") else "bf16"
    wide = on or config.on("bfloat16")
    config.state("bf16", wide, key)
    config.state("fp16", config.on("fp16") and not on, "fp16")
    if wide:
        config.state("load_dtype", "bfloat16", *(dtype,) if config.on(dtype) else (), key)
    elif half:
        config.state("load_dtype", "float16", half)
    else:
        config.derive("load_dtype", "float32", "no 16-bit dtype is asked for", "bf16")


def _overrides(config: Config) -> None:
    """`model_config` changes keys of the checkpoint's config.json (loaders/utils.py, load_model_config)."""
    for key in ("model_config", "overrides_of_model_config"):
        value = config.value(key)
        if isinstance(value, Table):
            kept = tuple([entry for entry in value if entry.key in DIMENSIONS])
            config.draft.tables += [("config-overrides", Table(kept, value.place))] if kept else []
            config.say("router_logits", f"{key}.output_router_logits", "flag")


def _batch(config: Config) -> None:
    micro, total = config.integer("micro_batch_size"), config.integer("batch_size")
    if config.given("auto_find_batch_size") and config.on("auto_find_batch_size"):
        config.draft.facts.pop("micro_batch_size", None)
        config.derive("batch_adapts", True, "auto_find_batch_size halves it until a step fits", "auto_find_batch_size")
        config.unknown("micro_batch_size", "auto_find_batch_size lets the Trainer look for one", "auto_find_batch_size")
    if total and micro and not config.given("gradient_accumulation_steps"):
        reason = "batch_size / micro_batch_size"
        config.derive("gradient_accumulation_steps", max(1, total // micro), reason, "batch_size")
    if micro:
        config.state("eval_micro_batch_size", micro)
    packed = config.on("sample_packing") and not config.is_unknown("sample_packing")
    config.state("packing", packed, "sample_packing")
    if packed:
        config.derive("padding_free", True, "packed samples lie end to end in one row", "sample_packing")
    reward = config.on("reward_model")
    if config.given("pad_to_sequence_len"):
        config.say("pad_to_maximum", "pad_to_sequence_len", "flag")
    elif packed or reward:
        config.state("pad_to_maximum", True)


def _evaluation(config: Config) -> None:
    """Whether the Trainer evaluates while it trains (core/builders/base.py, _configure_save_and_eval_strategy)."""
    share = config.plain("val_set_size")
    has_set = (isinstance(share, int | float) and share > 0) or config.given("test_datasets")
    asks = ("eval_steps", "evals_per_epoch", "eval_strategy", "evaluation_strategy")
    asked = [key for key in asks if config.given(key) and config.plain(key) not in (0, "no", False)]
    if has_set and asked:
        value = Scalar("steps", config.place(asked[0]))
        config.draft.tables.append(("evaluation", Table((Entry("eval_strategy", None, value),))))


_OFFLOADS: Mapping[str, str] = MappingProxyType({"offload": "", "offload_disk": "disk"})
"""`gradient_checkpointing` in words that mean offloading too, and the kind of it."""


def _checkpointing(config: Config) -> None:
    """Recomputation and what waits in host memory (core/builders/base.py, schemas/validation.py)."""
    word = config.plain("gradient_checkpointing")
    offloads = config.plain("activation_offloading")
    key = "activation_offloading"
    if word in _OFFLOADS:
        offloads, key = _OFFLOADS[str(word)] or True, "gradient_checkpointing"
    config.state("activation_offloading", offloads or False, key)
    if offloads == "hidden_states":
        config.derive("checkpointing_offload", True, "checkpoints' inputs wait in host memory", key)
    if config.on("gradient_checkpointing"):
        _reentrant(config, manual=bool(offloads) and not config.text("adapter"))


def _reentrant(config: Config, *, manual: bool) -> None:
    """Reentrant unless something says otherwise (utils/config/__init__.py, normalize_config)."""
    if manual:
        reason = "layers are wrapped by torch's checkpoint_wrapper"
        config.derive("checkpointing_reentrant", False, reason, "activation_offloading")
    elif config.given("gradient_checkpointing_kwargs"):
        config.say("checkpointing_reentrant", "gradient_checkpointing_kwargs.use_reentrant", "flag")
    else:
        plain = not config.given("unfrozen_parameters") and not config.text("rl")
        config.state("checkpointing_reentrant", plain)


_OPTIMIZERS: Mapping[str, str] = MappingProxyType(
    {
        "ao_adamw_4bit": "adamw_torch_4bit",
        "ao_adamw_8bit": "adamw_torch_8bit",
        "ao_adamw_fp8": "torchao_adamw_fp8",
    }
)
"""Axolotl's own names and those of the catalog."""


def _optimizer(config: Config) -> None:
    name = config.text("optimizer")
    if name in _OPTIMIZERS:
        config.state("optimizer", _OPTIMIZERS[name], "optimizer", over=True)
    arguments = config.value("optim_args")
    if isinstance(arguments, Table):
        pairs = [f"{entry.key}={entry.value.value}" for entry in arguments if isinstance(entry.value, Scalar)]
        config.state("optimizer_arguments", ",".join(pairs), "optim_args")
    else:
        config.say("optimizer_arguments", "optim_args", "text")


FRAMEWORK = Framework(
    "axolotl",
    "Axolotl",
    "axolotl",
    _ROWS,
    _complete,
    spelled={"quantization_bits": spelled_bits, "lora_r": spelled_rank, "lora_target_modules": spelled_targets},
    spelled_beside={
        "attention_implementation": spelled_attention,
        "fused_loss": spelled_liger,
        "tuning": spelled_tuning,
    },
    deepspeed=shipped,
)
