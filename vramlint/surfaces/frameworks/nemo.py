"""NeMo: YAML of NeMo 1 for Megatron's models, and recipes of NeMo 2 (2.6: nemo/collections/llm/recipes, `nemo llm`).

Both say in words of their own what Megatron's flags say: they are read as these.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.catalog.recipes import recipe
from vramlint.patterns import lazy
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.frameworks.interpolation import interpolated
from vramlint.surfaces.frameworks.megatron import attention, recomputation
from vramlint.surfaces.frameworks.megatron_batches import accumulate
from vramlint.surfaces.frameworks.megatron_engine import UNFOLLOWED
from vramlint.surfaces.frameworks.megatron_models import define_model
from vramlint.surfaces.frameworks.megatron_recipes import FIELDS, share_recipe
from vramlint.surfaces.frameworks.recipes import on_recipe, renested
from vramlint.surfaces.launch.framework_programs import PROGRAM
from vramlint.values import Entry, Scalar, Table

_NAME = "nemo"
RECIPE = "factory"

_ROWS = (
    Row("model.id", "model", "text"),
    Row("model.restore_from_path", "model", "text"),
    Row("micro_batch_size", "micro_batch_size", "count"),
    Row("trainer.max_steps", "max_steps", "count"),
    Row("global_batch_size", "global_batch_size", "count"),
    Row("seq_length", "sequence_length", "count"),
    Row("tensor_model_parallel_size", "tensor_parallel", "count"),
    Row("pipeline_model_parallel_size", "pipeline_parallel", "count"),
    Row("context_parallel_size", "context_parallel", "count"),
    Row("expert_model_parallel_size", "expert_parallel", "count"),
    Row("expert_tensor_parallel_size", "expert_tensor_parallel", "count"),
    Row("sequence_parallel", "sequence_parallel", "flag"),
    Row("make_vocab_size_divisible_by", "vocabulary_multiple", "count"),
    Row("hidden_size", "hidden_size", "count"),
    Row("num_attention_heads", "attention_heads", "count"),
    Row("hidden_dropout", "dropout", "number"),
    Row("trainer.gradient_clip_val", "max_grad_norm", "number"),
    Row("use_distributed_optimizer", "distributed_optimizer", "flag"),
    Row("cross_entropy_loss_fusion", "fused_loss", "flag"),
    Row("trainer.devices", "gpus_per_node", "count"),
    Row("trainer.num_nodes", "nodes", "count"),
    Row("peft.dim", "lora_r", "count"),
    Row("peft.alpha", "lora_alpha", "number"),
    Row("peft.dropout", "lora_dropout", "number"),
    Row("peft.target_modules", "lora_target_modules", "names"),
)

FURTHER = tuple(
    dict.fromkeys(
        (
            *(name for name in (*FIELDS, *UNFOLLOWED) if name not in ("num_experts", "mtp_num_layers")),
            *("recompute_modules", "moe_token_dispatcher_type", "use_precision_aware_optimizer", "main_grads_dtype"),
            *("main_params_dtype", "exp_avg_dtype", "exp_avg_sq_dtype", "optimizer_cpu_offload"),
            *("optimizer_offload_fraction", "pipeline_model_parallel_layout"),
        )
    )
)
"""Fields that say how Megatron's ranks share the model, or that they do something that is not followed."""
_SAME = (
    "micro_batch_size",
    "global_batch_size",
    "tensor_model_parallel_size",
    "pipeline_model_parallel_size",
    "context_parallel_size",
    "expert_model_parallel_size",
    "expert_tensor_parallel_size",
    "sequence_parallel",
    "num_layers",
    "hidden_size",
    "ffn_hidden_size",
    "num_attention_heads",
    "num_query_groups",
    "kv_channels",
    "max_position_embeddings",
    "make_vocab_size_divisible_by",
    "hidden_dropout",
    "attention_dropout",
    "moe_router_topk",
    "moe_ffn_hidden_size",
    "moe_shared_expert_intermediate_size",
    "position_embedding_type",
    "mtp_num_layers",
    "recompute_granularity",
    "cross_entropy_loss_fusion",
    "seq_length",
    *FURTHER,
)
"""Keys that Megatron has by the same name."""

_SECTIONS = ("model.config.", "trainer.strategy.", "data.", "model.", "model.data.", "optim.config.")
"""Where they stand: those of NeMo 2's model, strategy, data and optimizer, and of NeMo 1's model."""

_RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "model.encoder_seq_length": "seq_length",
        "model.data.train_ds.max_seq_length": "seq_length",
        "model.activations_checkpoint_granularity": "recompute_granularity",
        "model.num_moe_experts": "num_experts",
        "model.config.num_moe_experts": "num_experts",
        "model.use_flash_attention": "use_flash_attn",
        "optim.config.use_distributed_optimizer": "use_distributed_optimizer",
        "model.peft.lora_tuning.adapter_dim": "peft.dim",
        "model.peft.lora_tuning.alpha": "peft.alpha",
        "model.peft.lora_tuning.adapter_dropout": "peft.dropout",
        "model.peft.lora_tuning.target_modules": "peft.target_modules",
        "num_nodes": "trainer.num_nodes",
        "num_gpus_per_node": "trainer.devices",
    }
)
"""Keys and what they are called here."""

_SWITCHES: tuple[tuple[str, tuple[object, ...], str], ...] = (
    ("model.bias", (False,), "disable_bias_linear"),
    ("model.share_embeddings_and_output_weights", (False,), "untie_embeddings_and_output_weights"),
    ("model.activation", ("swiglu", "fast-swiglu"), "swiglu"),
    ("model.activation", ("geglu", "fast-geglu"), "quick_geglu"),
    ("model.activation", ("squared-relu",), "squared_relu"),
)
"""Key, values, and the flag of Megatron's that they switch on."""

_OPTIMIZERS: Mapping[str, str] = MappingProxyType(
    {
        "adam": "adamw_apex_fused",
        "fused_adam": "adamw_apex_fused",
        "distributed_fused_adam": "adamw_apex_fused",
        "mcore_distributed_optim": "adamw_apex_fused",
    }
)

_SIZES = ("tensor_model_parallel_size", "pipeline_model_parallel_size", "context_parallel_size")
_TRAINS = lazy(r"nemo llm (?:pretrain|finetune|train)|\.py$|^\w+$")
_SCHEMES = ("model.peft.peft_scheme", "peft_scheme", "peft.type")
_LORA: Mapping[str, tuple[str, str | float]] = MappingProxyType(
    {"lora_r": ("peft.dim", 32), "lora_alpha": ("peft.alpha", 32), "lora_dropout": ("peft.dropout", 0.0)}
)
"""Defaults of LoRA (nemo/collections/llm/peft/lora.py)."""


def prepared(table: Table) -> Table:
    """The configuration on top of its recipe, with what Megatron has flags for under their names."""
    table = interpolated(renested(table))
    named = recipe(_NAME, _named(table))
    if isinstance(table.get("model"), Scalar):  # `model=llama3_8b` names the recipe
        table = Table(tuple([entry for entry in table if entry.key != "model"]), table.place)
    table = on_recipe(table, named)
    entries: dict[str, Entry] = {}
    for key, flag in _RENAMED.items():
        _take(table, key, flag, entries)
    for name in _SAME:
        for section in _SECTIONS:
            _take(table, f"{section}{name}", name, entries)
    for key, values, flag in _SWITCHES:
        entry = table.entry(*key.split("."))
        if entry is not None and isinstance(entry.value, Scalar) and entry.value.value in values:
            entries[flag] = Entry(flag, entry.key_place, Scalar(True, entry.value.place, entry.value.via))
    if "num_query_groups" in entries:
        entries["group_query_attention"] = Entry("group_query_attention", None, Scalar(True))
    return renested(Table((*table.entries, *entries.values()), table.place))


def _take(table: Table, key: str, flag: str, entries: dict[str, Entry]) -> None:
    """An entry under the name of a flag; one that is written before one that the recipe gives."""
    entry = table.entry(*key.split("."))
    if entry is None or (isinstance(entry.value, Scalar) and entry.value.value is None):
        return
    known = entries.get(flag)
    if known is None or (isinstance(known.value, Scalar) and known.value.via == "library"):
        entries[flag] = Entry(flag, entry.key_place, entry.value)


def _named(table: Table) -> str:
    """The name of the recipe: `llama3_8b.pretrain_recipe`, of `--factory llama3_8b` or of a function."""
    named = table.get(RECIPE)
    model = table.get("model")
    named = named if named is not None else model if isinstance(model, Scalar) else None
    if not isinstance(named, Scalar) or not isinstance(named.value, str):
        return ""
    name = named.value.partition("(")[0].strip("\"' ")
    if "." not in name:
        program = table.get(PROGRAM)
        word = "finetune" if isinstance(program, Scalar) and "finetune" in str(program.value) else "pretrain"
        name = f"{name}.{word}_recipe"
    scheme = table.get("peft_scheme") or table.get("peft")
    bare = isinstance(scheme, Scalar) and str(scheme.value).lower() in ("none", "null")
    return f"{name}:none" if bare else name


def _complete(config: Config) -> None:
    program = config.text(PROGRAM)
    if program and not _TRAINS.search(program):
        config.derive("run_kind", "library", f"{program} trains nothing", over=True)
    config.derive("loop", "plain", "NeMo trains with Lightning on Megatron's optimizer")
    _objective(config)
    _tuning(config)
    _precision(config)
    _optimizer(config)
    recomputation(config)
    attention(config)
    _ranks(config)
    if config.on("cross_entropy_loss_fusion"):
        config.derive("full_logits", True, "the head's matrix product stands alone")
    if config.given("num_layers"):
        define_model(config)
    nodes, devices = config.integer("trainer.num_nodes") or 1, config.integer("trainer.devices")
    if devices:
        config.state("world_size", nodes * devices, "trainer.devices")
    accumulate(config, "global_batch_size", "micro_batch_size", _SIZES)


def _ranks(config: Config) -> None:
    """How the ranks share the model of a recipe of NeMo 2; NeMo 1 has optimizers of its own."""
    precision, fp8 = config.fact("precision"), config.fact("fp8")
    why = ""
    if not config.given(RECIPE) and not config.given("optim.config.optimizer"):
        why = "NeMo 1's optimizer and data parallelism, or a recipe that is not named,"
    elif fp8 is not None and fp8.value is True:
        why = "8-bit products (trainer.plugins.precision)"
    share_recipe(config, str, why)
    config.state("wide_gradients", not (precision and precision.value == "fp16-mixed"), "trainer.plugins.precision")


def _objective(config: Config) -> None:
    words = (config.text(RECIPE), config.text(PROGRAM), config.path.rpartition("/")[2])
    if any("finetun" in word or "sft" in word for word in words) or config.given("model.data.train_ds"):
        config.derive("objective", "sft", "answers are trained", RECIPE, "model.data.train_ds")
    else:
        config.derive("objective", "pretrain", "the loss is that of every token", RECIPE)
    specs = "data.packed_sequence_specs"
    if config.given(specs):
        config.state("packing", True, specs)


def _tuning(config: Config) -> None:
    key = next((key for key in _SCHEMES if config.given(key)), "")
    word = config.text(key).lower() if key else ""
    if key and word not in ("none", "null", ""):
        config.state("tuning", "lora" if word in ("lora", "dora", "canonicallora") else word, key)
        for fact, (name, value) in _LORA.items():
            config.state(fact, value, name)
        config.state("lora_target_modules", "all-linear", "peft.target_modules")
        return
    config.derive("tuning", "full", "no adapter is made", *_SCHEMES)
    for fact in ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"):
        config.draft.facts.pop(fact, None)


def _precision(config: Config) -> None:
    keys = ("trainer.plugins.precision", "trainer.precision")
    key = next((key for key in keys if config.given(key)), "")
    word = str(config.plain(key)) if key else ""
    if not word:
        return
    kind = next((kind for part, kind in (("bf16", "bf16"), ("16", "fp16")) if part in word), "")
    config.state("precision", f"{kind}-mixed" if kind else "fp32", key)
    for flag in ("bf16", "fp16"):
        config.derive(flag, flag == kind, "by the precision")
    keys = ("model.fp8", "trainer.plugins.fp8")
    config.state("fp8", any(map(config.on, keys)) or "fp8" in word, *keys, key)


def _optimizer(config: Config) -> None:
    key = next((key for key in ("optim.config.optimizer", "model.optim.name") if config.given(key)), "")
    if key:
        word = config.text(key)
        config.state("optimizer", _OPTIMIZERS.get(word, word), key)
        if word.startswith(("distributed", "mcore_distributed")):
            config.state("distributed_optimizer", True, key)


def located(table: Table, key: str) -> str:
    """Where a file writes, or would write, what is called `key` here."""
    renamed = [written for written, name in _RENAMED.items() if name == key]
    places = (*renamed, *(f"{section}{key}" for section in _SECTIONS))
    found = next((place for place in places if table.entry(*place.split(".")) is not None), "")
    return found or (f"model.{key}" if key in _SAME else key)


FRAMEWORK = Framework(
    _NAME,
    "NeMo",
    "nemo-toolkit",
    _ROWS,
    _complete,
    checked=False,
    prepared=prepared,
    located=located,
)
