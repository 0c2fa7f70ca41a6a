"""litgpt's YAML and command line (litgpt 0.5.13: __main__.py, finetune/*.py, pretrain.py, args.py, utils.py).

The subcommand decides what is trained, and it stands in no file: a file alone tells LoRA by its keys and pretraining by
`model_name`. Numbers of GPUs follow from `devices`; how they share the model and whether blocks are checkpointed
follows from these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from vramlint.catalog.litgpt_models import MODEL_TYPE, completed, hub_id, litgpt_model, of_checkpoint
from vramlint.catalog.models import find_model
from vramlint.facts import FactValue
from vramlint.job import ConfigValue
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.frameworks.networks import define
from vramlint.surfaces.launch.framework_programs import PROGRAM, WORDS
from vramlint.surfaces.lightning import PRECISIONS, QUANTIZED
from vramlint.surfaces.litgpt import TARGETS
from vramlint.surfaces.model_config import config_values
from vramlint.values import Items, Plain, Scalar, Table

_ROWS = (
    Row("train.micro_batch_size", "micro_batch_size", "count"),
    Row("train.global_batch_size", "global_batch_size", "count"),
    Row("train.max_seq_length", "sequence_length", "count"),
    Row("lora_r", "lora_r", "count"),
    Row("lora_alpha", "lora_alpha", "number"),
    Row("lora_dropout", "lora_dropout", "number"),
    Row("optimizer.init_args.weight_decay", "weight_decay", "number"),
    Row("train.weight_decay", "weight_decay", "number"),
    Row("num_nodes", "nodes", "count"),
)


class Script(NamedTuple):
    """One subcommand."""

    tuning: str
    objective: str = "sft"
    micro_batch_size: int = 1
    global_batch_size: int = 16
    devices: int | str = 1
    fsdp: str = "full_shard"
    fsdp_version: int = 1
    checkpoints: bool = True
    """Blocks are recomputed where several GPUs share the model."""


_SCRIPTS: Mapping[str, Script] = MappingProxyType(
    {
        "finetune": Script("lora", fsdp_version=2),
        "finetune_lora": Script("lora", fsdp_version=2),
        "finetune_lora_legacy": Script("lora"),
        "finetune_full": Script("full"),
        "finetune_adapter": Script("adaption_prompt"),
        "finetune_adapter_v2": Script("adapter_v2"),
        "pretrain": Script("full", "pretrain", 4, 512, "auto", "hybrid_shard", checkpoints=False),
    }
)
"""Subcommands, what they train, and the defaults that differ between them. PEFT calls litgpt's first kind of adapter
adaption prompts; the second, biases and scales of every linear layer, it does not have."""

_PRETRAINING = ("model_name", "model_config", "initial_checkpoint_dir", "tokenizer_dir")
"""Keys of litgpt/pretrain.py alone."""
_LORA = ("lora_r", "lora_alpha", "lora_dropout")
_FLAGS = tuple(flag for flag, _ in TARGETS)
_FOLDER = "checkpoints/"
_CHUNK = 128
"""lm_head_chunk_size of the finetuning scripts."""
_STABLE_FROM, _WIDE_NORMS_FROM, _FSDP2_FROM = (0, 5, 0), (0, 4, 6), (0, 5, 11)
"""Releases since which a quantized run replaces the embedding after the optimizer is made (pull request 1770), RMSNorm
multiplies in float32, and LoRA over several devices is sharded by FSDP 2."""
_CLIP = 1.0
"""train.max_norm of litgpt/pretrain.py; the other scripts refuse the key."""


def _complete(config: Config) -> None:
    name = _subcommand(config)
    script = _SCRIPTS[name]
    config.derive("loop", "fabric", "litgpt's own loops with Lightning's Fabric")
    config.derive("use_cache", False, "key and value caches are for generation alone")
    config.derive("packing", False, "samples are not packed") if script.objective == "sft" else None
    config.derive("padding", False, "no mask reaches attention: what is padded is masked in the loss alone")
    _tuning(config, name, script)
    _precision(config)
    _model(config, script)
    config.state("micro_batch_size", script.micro_batch_size, "train.micro_batch_size")
    config.state("global_batch_size", script.global_batch_size, "train.global_batch_size")
    size = _number(config, "micro_batch_size")
    if size:
        config.derive("eval_micro_batch_size", size, "validation has the batches of training", _ROWS[0].key)
    _sharing(config, script)
    _optimizer(config, script)


def _subcommand(config: Config) -> str:
    """The subcommand: as started (`litgpt finetune lora` before 0.4), else by the keys."""
    words = config.text(PROGRAM).replace("/", ".").removesuffix(".py").split()
    if words:
        parts = words[-1].split(".")
        last = "_".join(part for part in parts[-2:] if part != "litgpt") if len(words) == 1 else words[1]
        kind = _positional(config, 0)
        if last == "finetune" and f"finetune_{kind}" in _SCRIPTS:
            last = f"finetune_{kind}"
        if last in _SCRIPTS:
            return last
    if any(config.given(key) for key in _PRETRAINING):
        return "pretrain"
    if any(config.given(key) for key in (*_LORA, *_FLAGS)):
        return "finetune_lora"
    return "finetune_full"


def _positional(config: Config, number: int) -> str:
    """A word of the command line in front of its options."""
    words = config.value(WORDS)
    found = words.values[number] if isinstance(words, Items) and len(words.values) > number else None
    return str(found.value) if isinstance(found, Scalar) else ""


def _tuning(config: Config, name: str, script: Script) -> None:
    if config.given(PROGRAM):
        reason = f"litgpt {name} trains so"
        config.derive("tuning", script.tuning, reason, PROGRAM)
        config.derive("objective", script.objective, reason, PROGRAM)
    elif name == "pretrain":
        config.derive("tuning", "full", "pretraining trains every weight", *_PRETRAINING)
        config.derive("objective", "pretrain", "litgpt pretrain alone takes this key", *_PRETRAINING)
    elif script.tuning == "lora":
        config.state("tuning", "lora", *_LORA, *_FLAGS)
        config.derive("objective", "sft", "litgpt puts LoRA on a model to finetune it", *_LORA)
    else:
        why = "no file says the subcommand, and there are no keys of LoRA"
        adapts = "adapter" in config.path.rpartition("/")[2].lower()
        config.assume("tuning", "adaption_prompt" if adapts else "full", why)
        config.assume("objective", "sft", why)
    if script.tuning != "lora":
        return
    on = tuple([part for key, part in TARGETS if config.on(key)])
    config.state("lora_target_modules", on, *_FLAGS)
    for key in _LORA:
        default = config.default(key)
        if default is not None:
            config.state(key, default, key)
    config.derive("adapter_library", "litgpt", "litgpt's own layers")
    config.derive("use_dora", False, "litgpt has no DoRA")


def _precision(config: Config) -> None:
    word = config.text("precision")
    if config.is_unknown("precision"):
        for fact in ("bf16", "load_dtype"):
            config.unknown(fact, "the precision is decided at run time", "precision")
        return
    meaning = PRECISIONS.get(word or "bf16-mixed", PRECISIONS["32-true"])
    for flag, dtype in (("bf16", "bfloat16"), ("fp16", "float16")):
        config.state(flag, meaning.autocast == dtype, "precision")
    config.state("load_dtype", meaning.weights or "float32", "precision")
    mode = config.text("quantize").removeprefix("bnb.")
    found = QUANTIZED.get(mode)
    if found is None:
        if config.is_unknown("quantize"):
            config.unknown("quantization_bits", "decided at run time", "quantize")
        return
    bits, kind, double = found
    tuning = config.fact("tuning")
    if bits == 4 and tuning is not None and tuning.value == "lora":
        config.state("tuning", "qlora", "quantize", over=True)
    config.state("quantization_bits", bits, "quantize")
    config.state("quantization_type", kind, "quantize")
    if bits == 4:
        config.state("double_quantization", double, "quantize")
    config.state("quantization_compute_dtype", meaning.weights or "float32", "precision")
    config.derive("prepared_for_kbit", False, "litgpt widens nothing")


def _model(config: Config, script: Script) -> None:
    key = "checkpoint_dir" if script.objective == "sft" else "model_name"
    written = config.text(key)
    if config.is_unknown(key):
        config.unknown("model", "decided at run time", key)
    elif not written:
        words = config.value(WORDS)
        named = [word for word in words.values if isinstance(word, Scalar)] if isinstance(words, Items) else []
        written = str(named[-1].value) if named and named[-1].value not in _kinds() else ""
        if written:
            config.state("model", _named(written, script), WORDS)
        elif isinstance(words, Items) and words.values:
            config.unknown("model", "decided at run time", WORDS)
    else:
        config.state("model", _named(written, script), key)
    config.derive("attention_implementation", "sdpa", "litgpt calls torch's scaled_dot_product_attention")
    network = _network(config, written)
    if network is None:
        return
    if network.get("attention_logit_softcapping") is not None:
        config.derive("attention_implementation", "eager", "the model caps its scores, which sdpa cannot", over=True)
    length = config.integer("train.max_seq_length")
    bound = network["max_position_embeddings"]
    if length and isinstance(bound, int):
        network["max_position_embeddings"] = min(length, bound)  # rope's tables are made anew for the sequences
    network["lm_head_chunk_size"] = _CHUNK if script.objective == "sft" else 0
    network["tie_embeddings"] = script.objective == "pretrain" and config.on("train.tie_embeddings")
    network["stable_embedding"] = config.given("quantize") and _since(config, _STABLE_FROM)
    network["norm_widens_weights"] = _since(config, _WIDE_NORMS_FROM)
    if script.objective == "pretrain":
        network["vocab_size"] = network["padded_vocab_size"]
        if not length and isinstance(bound, int):
            config.derive("sequence_length", bound, "the model's block_size", "model_config.block_size", "model_name")
        _sizes(config, network)
    define(config, {"model_type": MODEL_TYPE, **network})


def _since(config: Config, release: tuple[int, ...]) -> bool:
    return config.release is None or config.release >= release


def _kinds() -> frozenset[str]:
    """Second words of the subcommands before 0.4."""
    return frozenset(name.removeprefix("finetune_") for name in _SCRIPTS)


def _named(written: str, script: Script) -> str:
    """The hub's id of a checkpoint's folder; a model to pretrain as litgpt calls it."""
    path = written.strip("/")
    inside = path.rpartition(_FOLDER)[2] if _FOLDER in f"{path}/" else path
    if script.objective == "pretrain" or "/" in inside:
        return inside
    return hub_id(inside) or inside


def _network(config: Config, written: str) -> dict[str, ConfigValue] | None:
    """The network as litgpt describes it: written here, in its table, or made of the checkpoint's config.json."""
    table = config.value("model_config")
    if isinstance(table, Table) and table.get("n_layer") is not None:
        return completed(config_values(table))
    fact = config.fact("model")
    name = str(fact.value) if fact is not None and fact.known else written
    found = litgpt_model(name) if name else None
    if found is not None or not name:
        return found
    row = find_model(name)
    return of_checkpoint(row.model_type, row.config) if row is not None else None


_SIZES: Mapping[str, str] = MappingProxyType(
    {
        "layers": "n_layer",
        "hidden_size": "n_embd",
        "attention_heads": "n_head",
        "key_value_heads": "n_query_groups",
        "vocabulary_size": "padded_vocab_size",
        "intermediate_size": "intermediate_size",
    }
)


def _sizes(config: Config, network: Mapping[str, ConfigValue]) -> None:
    """The sizes of a model that is trained from scratch."""
    for fact, key in _SIZES.items():
        value = network.get(key)
        if config.given(f"model_config.{key}"):
            config.say(fact, f"model_config.{key}", "count")
        elif isinstance(value, int):
            config.derive(fact, value, "litgpt's configuration of that name", "model_config", "model_name")
    tied = bool(network["tie_embeddings"])
    config.state("tied_embeddings", tied, "train.tie_embeddings")


def _sharing(config: Config, script: Script) -> None:
    """GPUs, and how they share the model: each script has one strategy for several of them."""
    nodes = config.integer("num_nodes") or 1
    devices = _devices(config, script)
    if devices is None:
        reason = "devices is auto: every GPU of the machine is used"
        config.unknown("world_size", reason, "devices")
        config.unknown("gradient_accumulation_steps", reason, "train.global_batch_size")
        world = None
    else:
        config.state("gpus_per_node", devices, "devices")
        config.state("world_size", devices * nodes, "devices", "num_nodes")
        world = devices * nodes
        total, size = (_number(config, fact) for fact in ("global_batch_size", "micro_batch_size"))
        if total and size:
            reason = f"{total} / {world} devices / {size}"
            config.derive("gradient_accumulation_steps", max(1, total // world // size), reason)
    if world == 1:
        config.derive("parallelism", "none", "one device", "devices")
        config.derive("activation_checkpointing", False, "one device: litgpt checkpoints where FSDP shards")
        return
    reason = "litgpt shards the model over several devices"
    if world is not None:
        config.derive("parallelism", "fsdp", reason, "devices", "num_nodes")
    config.derive("fsdp", script.fsdp, reason)
    config.derive("fsdp_wrap_class", "Block", reason)
    config.derive("fsdp_version", script.fsdp_version if _since(config, _FSDP2_FROM) else 1, reason)
    config.derive("activation_checkpointing", script.checkpoints, "part of the strategy for several devices")
    if script.checkpoints:
        config.derive("checkpointing_reentrant", False, "checkpoint_wrapper of torch")


def _number(config: Config, name: str) -> int | None:
    """A whole number that is known by now."""
    fact = config.fact(name)
    return fact.value if fact is not None and isinstance(fact.value, int) else None


def _devices(config: Config, script: Script) -> int | None:
    """GPUs of one machine; None for all that there are."""
    written = config.plain("devices")
    found = script.devices if written is None and not config.given("devices") else written
    if isinstance(found, str) and found.isdecimal():
        return int(found)
    return found if isinstance(found, int) and found > 0 else None


def _optimizer(config: Config, script: Script) -> None:
    path, name = config.text("optimizer.class_path"), config.text("optimizer")
    key = "optimizer.class_path" if config.given("optimizer.class_path") else "optimizer"
    given = path or name or "AdamW"
    config.state("optimizer", given if "." in given else f"torch.optim.{given}", key)
    if script.objective == "pretrain":
        config.derive("optimizer_arguments", "fused=True", "litgpt pretrain asks for the fused form", key)
        config.say("max_grad_norm", "train.max_norm", "number")
        config.state("max_grad_norm", _CLIP, "train.max_norm")
    else:
        config.derive("max_grad_norm", 0, "the finetuning scripts clip nothing")
    compiles = script.objective == "pretrain"
    config.derive(
        "torch_compile", compiles, "litgpt pretrain compiles the model" if compiles else "nothing compiles it"
    )
    config.derive("full_logits", compiles, "the head's output is " + ("one tensor" if compiles else "in chunks"))
    config.derive("fused_loss", False, "litgpt takes torch's cross entropy")


def _spelled_dtype(value: FactValue) -> Mapping[str, Plain] | None:
    word = {"bfloat16": "bf16-true", "float16": "16-true", "float32": "32-true"}.get(str(value))
    return {"precision": word} if word else None


def _spelled_flag(word: str) -> Callable[[FactValue], Mapping[str, Plain] | None]:
    return lambda value: {"precision": word} if value is True else None


FRAMEWORK = Framework(
    "litgpt",
    "litgpt",
    "litgpt",
    _ROWS,
    _complete,
    loose=False,
    follows=frozenset({"gradient_accumulation_steps"}),
    closed=frozenset({"activation_checkpointing", "fused_loss", "parallelism", "zero_stage"}),
    spelled={"load_dtype": _spelled_dtype, "bf16": _spelled_flag("bf16-mixed"), "fp16": _spelled_flag("16-mixed")},
)
