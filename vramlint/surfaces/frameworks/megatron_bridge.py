"""Megatron-Bridge: overrides of a recipe, in YAML, on the command line or in Python (0.7: training/config.py, recipes).

What a file does not override, the recipe says; where nobody names the recipe, it is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from vramlint.catalog.recipes import recipe
from vramlint.patterns import lazy
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.frameworks.megatron import spelled_recomputation
from vramlint.surfaces.frameworks.megatron_batches import accumulate
from vramlint.surfaces.frameworks.megatron_recipes import share_recipe
from vramlint.surfaces.frameworks.recipes import on_recipe, renested
from vramlint.surfaces.launch.options import nested
from vramlint.surfaces.overlay import overlaid
from vramlint.values import Scalar, Table

_NAME = "megatron-bridge"
RECIPE = "recipe"

_ROWS = (
    Row("model.hf_model", "model", "text"),
    Row("train.micro_batch_size", "micro_batch_size", "count"),
    Row("train.global_batch_size", "global_batch_size", "count"),
    Row("model.seq_length", "sequence_length", "count"),
    Row("dataset.seq_length", "sequence_length", "count"),
    Row("dataset.sequence_length", "sequence_length", "count"),
    Row("model.tensor_model_parallel_size", "tensor_parallel", "count"),
    Row("model.pipeline_model_parallel_size", "pipeline_parallel", "count"),
    Row("model.pipeline_model_parallel_layout", "pipeline_layout", "text"),
    Row("model.context_parallel_size", "context_parallel", "count"),
    Row("model.expert_model_parallel_size", "expert_parallel", "count"),
    Row("model.expert_tensor_parallel_size", "expert_tensor_parallel", "count"),
    Row("model.sequence_parallel", "sequence_parallel", "flag"),
    Row("model.recompute_granularity", "recompute", "text"),
    Row("model.cross_entropy_loss_fusion", "fused_loss", "flag"),
    Row("model.num_layers", "layers", "count"),
    Row("model.hidden_size", "hidden_size", "count"),
    Row("model.ffn_hidden_size", "intermediate_size", "count"),
    Row("model.num_attention_heads", "attention_heads", "count"),
    Row("model.num_query_groups", "key_value_heads", "count"),
    Row("model.mtp_num_layers", "mtp_layers", "count"),
    Row("model.make_vocab_size_divisible_by", "vocabulary_multiple", "count"),
    Row("model.vocab_size", "vocabulary_size", "count"),
    Row("ddp.use_distributed_optimizer", "distributed_optimizer", "flag"),
    Row("optimizer.use_distributed_optimizer", "distributed_optimizer", "flag"),
    Row("optimizer.clip_grad", "max_grad_norm", "number"),
    Row("optimizer.weight_decay", "weight_decay", "number"),
    Row("peft.dim", "lora_r", "count"),
    Row("peft.alpha", "lora_alpha", "number"),
    Row("peft.dropout", "lora_dropout", "number"),
    Row("peft.target_modules", "lora_target_modules", "names"),
)

_SIZES = ("model.tensor_model_parallel_size", "model.pipeline_model_parallel_size", "model.context_parallel_size")

_OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "global_batch_size": "train.global_batch_size",
        "micro_batch_size": "train.micro_batch_size",
        "seq_length": "dataset.seq_length",
        "tensor_model_parallel_size": "model.tensor_model_parallel_size",
        "pipeline_model_parallel_size": "model.pipeline_model_parallel_size",
        "context_parallel_size": "model.context_parallel_size",
        "expert_model_parallel_size": "model.expert_model_parallel_size",
        "expert_tensor_parallel_size": "model.expert_tensor_parallel_size",
        "pretrained_checkpoint": "checkpoint.pretrained_checkpoint",
    }
)
"""Options of scripts/training/run_recipe.py and the keys that they stand for (COMMON_OVERRIDE_FIELDS)."""

_MODES: Mapping[str, str] = MappingProxyType({"lora": "peft", "dora": "peft"})
"""`--mode` and the word for it in a recipe's name."""

_WORDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (lazy(r"distill"), "distillation"),
    (lazy(r"(?:^|[^a-z])(?:sft|peft|lora|dora|finetune|finetuning)(?:[^a-z]|$)"), "sft"),
    (lazy(r"pretrain"), "pretrain"),
)
"""Words of a recipe's or a file's name, and what it trains."""

_LORA: Mapping[str, tuple[str, str | float]] = MappingProxyType(
    {"lora_r": ("peft.dim", 32), "lora_alpha": ("peft.alpha", 32), "lora_dropout": ("peft.dropout", 0.0)}
)
"""Defaults of LoRA (src/megatron/bridge/peft/lora.py)."""

_UNSAID = (
    "model",
    "micro_batch_size",
    "sequence_length",
    "precision",
    "optimizer",
    "tuning",
    "activation_checkpointing",
    "fused_loss",
    "max_grad_norm",
)
"""Facts that stay open where no recipe is named."""
_OPTIMIZER = "optimizer.optimizer"
_ELSEWHERE = "the recipe that the file overrides says it"


def prepared(table: Table) -> Table:
    """The overrides on top of their recipe, where one is named."""
    table = renested(table)
    for option, key in _OPTIONS.items():
        entry = table.entry(option)
        if entry is not None:
            table = overlaid(table, nested(key, entry.key_place, entry.value))
    table = Table(tuple([entry for entry in table if entry.key not in _OPTIONS]), table.place)
    name = _named(table)
    if isinstance(table.get("model"), Scalar):  # run_recipe.py's --model: half of the recipe's name
        table = Table(tuple([entry for entry in table if entry.key != "model"]), table.place)
    return on_recipe(table, recipe(_NAME, name)) if name else table


def _named(table: Table) -> str:
    """The name of the recipe: written as a whole, or made of a model and a mode."""
    whole = table.get(RECIPE)
    if isinstance(whole, Scalar):
        return str(whole.value)
    model, mode = table.get("model"), table.get("mode")
    if not isinstance(model, Scalar):
        return ""
    word = str(mode.value) if isinstance(mode, Scalar) else "pretrain"
    return f"{model.value}_{_MODES.get(word, word)}_config"


def _complete(config: Config) -> None:
    named = config.given("model.hf_model") or config.given(RECIPE)
    config.derive("loop", "plain", "Megatron has a training loop of its own")
    _objective(config)
    _tuning(config)
    _precision(config)
    word = config.text(_OPTIMIZER)
    if word:
        config.state("optimizer", "adamw_apex_fused" if word == "adam" else word, _OPTIMIZER)
    if named:
        config.derive("attention_implementation", "sdpa", "Transformer Engine takes a fused kernel")
    if config.fact("recompute") is not None:
        full = config.text("model.recompute_granularity") == "full"
        config.state("activation_checkpointing", full, "model.recompute_granularity")
    elif named:
        config.state("recompute", "none", "model.recompute_granularity")
    if config.fact("fused_loss") is not None:
        config.derive("full_logits", True, "the head's matrix product stands alone")
    for key in ("dist.use_megatron_fsdp", "ddp.use_megatron_fsdp"):
        if config.on(key):
            config.state("fsdp", config.text("ddp.data_parallel_sharding_strategy") or "optim_grads_params", key)
    packs = ("dataset.enable_in_batch_packing", "dataset.packed_sequence_specs")
    if any(map(config.given, packs)):
        config.state("packing", any(map(config.on, packs[:1])) or config.given(packs[1]), *packs)
    accumulate(config, "train.global_batch_size", "train.micro_batch_size", _SIZES)
    _ranks(config)
    if not named:
        for fact in _UNSAID:
            config.unknown(fact, _ELSEWHERE)


def _ranks(config: Config) -> None:
    """How the ranks share the model, where their step is followed."""
    fp8, fsdp, precision = config.fact("fp8"), config.fact("fsdp"), config.fact("precision")
    why = ""
    if fp8 is not None and fp8.value is True:
        why = "8-bit products (mixed_precision)"
    elif "fp4" in config.text("mixed_precision"):
        why = "4-bit products (mixed_precision)"
    elif fsdp is not None:
        why = f"Megatron's own FSDP ({fsdp.key})"
    share_recipe(config, _key, why)
    said = config.given("mixed_precision.grad_reduce_in_fp32")
    wide = config.on("mixed_precision.grad_reduce_in_fp32") if said else precision and precision.value != "fp16-mixed"
    config.state("wide_gradients", bool(wide), "mixed_precision.grad_reduce_in_fp32", "mixed_precision")


_OF_OPTIMIZER = lazy(r"use_precision_aware_optimizer|optimizer_.*|main_(?:grads|params)_dtype|exp_avg.*")


def _key(field: str) -> str:
    return f"optimizer.{field}" if _OF_OPTIMIZER.fullmatch(field) else f"model.{field}"


def _objective(config: Config) -> None:
    distils = ("model.kd_config", "model.teacher")
    if any(map(config.given, distils)):
        config.state("objective", "distillation", *distils)
        return
    name = config.text(RECIPE) or config.text("mode") or config.path.rpartition("/")[2]
    found = next((objective for word, objective in _WORDS if word.search(name.lower())), "")
    if found:
        config.derive("objective", found, f"by the name {name}", RECIPE)
    elif config.given("peft"):
        config.derive("objective", "sft", "adapters are trained on answers", "peft")


def _tuning(config: Config) -> None:
    kind = config.text("peft.type").lower()
    if config.given("peft"):
        written = next((key for key in ("peft.type", "peft.dim", "peft.alpha") if config.given(key)), "peft")
        config.state("tuning", "lora", written)
        config.state("lora_target_modules", "all-linear", "peft.target_modules")
        config.state("use_dora", kind == "dora", "peft.type")
        for fact, (key, value) in _LORA.items():
            config.state(fact, value, key)
        return
    objective = config.fact("objective")
    if config.given(RECIPE) or (objective is not None and objective.value != "sft"):
        config.derive("tuning", "full", "no adapter is made")


def _precision(config: Config) -> None:
    word = config.text("mixed_precision")
    kind = next((kind for kind in ("bf16", "fp16") if kind in word), "")
    for flag in ("bf16", "fp16"):
        if config.on(f"mixed_precision.{flag}"):
            config.state("precision", f"{flag}-mixed", f"mixed_precision.{flag}")
            config.state("fp8", config.given("mixed_precision.fp8"), "mixed_precision.fp8")
    for flag in ("bf16", "fp16"):
        if config.on(f"model.{flag}"):
            config.state("precision", f"{flag}-mixed", f"model.{flag}")
    if kind:
        config.state("precision", f"{kind}-mixed", "mixed_precision")
        config.state("fp8", "fp8" in word, "mixed_precision")
    said = config.fact("precision")
    if said is not None and said.known:
        for flag in ("bf16", "fp16"):
            config.derive(flag, said.value == f"{flag}-mixed", "by the precision")


FRAMEWORK = Framework(
    _NAME,
    "Megatron-Bridge",
    "megatron-bridge",
    _ROWS,
    _complete,
    prepared=prepared,
    spelled={
        "activation_checkpointing": lambda value: spelled_recomputation(value, "model.") if value is True else None
    },
)
