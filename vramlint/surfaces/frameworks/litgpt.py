"""litgpt's YAML and command line (litgpt 0.5.13: __main__.py, finetune/*.py, pretrain.py, args.py, utils.py).

The subcommand decides what is trained, and it stands in no file: a file alone tells LoRA by its keys and pretraining by
`model_name`. Numbers of GPUs follow from `devices`; how they share the model and whether blocks are checkpointed
follows from these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from vramlint.catalog.optimizers import find_optimizer
from vramlint.facts import FactValue
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.frameworks.litgpt_model import define_model
from vramlint.surfaces.frameworks.litgpt_scripts import FLAGS, LORA, PRETRAINING, SCRIPTS, Script, since, subcommand
from vramlint.surfaces.hardware import by_bfloat16
from vramlint.surfaces.launch.framework_programs import PROGRAM
from vramlint.surfaces.lightning import PRECISIONS, QUANTIZED
from vramlint.surfaces.litgpt import TARGETS
from vramlint.values import Plain

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

_FSDP2_FROM = (0, 5, 11)
"""The release since which LoRA over several devices is sharded by FSDP 2."""
_CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "adamw_torch": "torch.optim.AdamW",
        "adamw_bnb_8bit": "bitsandbytes.optim.AdamW8bit",
        "paged_adamw_8bit": "bitsandbytes.optim.PagedAdamW8bit",
        "paged_adamw_32bit": "bitsandbytes.optim.PagedAdamW",
        "sgd": "torch.optim.SGD",
    }
)
"""Optimizers of the catalog and a class of each, as `optimizer.class_path` has them."""
_CLIP = 1.0
"""train.max_norm of litgpt/pretrain.py; the other scripts refuse the key."""


def _complete(config: Config) -> None:
    name = subcommand(config)
    script = SCRIPTS[name]
    config.derive("loop", "fabric", "litgpt's own loops with Lightning's Fabric")
    config.derive("use_cache", False, "key and value caches are for generation alone")
    packs = script.objective == "pretrain"
    config.derive("packing", packs, "pretraining reads blocks of tokens" if packs else "samples are not packed")
    config.derive("padding", False, "no mask reaches attention: what is padded is masked in the loss alone")
    _tuning(config, name, script)
    _precision(config)
    define_model(config, script)
    config.state("micro_batch_size", script.micro_batch_size, "train.micro_batch_size")
    config.state("global_batch_size", script.global_batch_size, "train.global_batch_size")
    size = _number(config, "micro_batch_size")
    if size:
        config.derive("eval_micro_batch_size", size, "validation has the batches of training", _ROWS[0].key)
    _sharing(config, script)
    _optimizer(config, script)


def _tuning(config: Config, name: str, script: Script) -> None:
    if config.given(PROGRAM):
        reason = f"litgpt {name} trains so"
        config.derive("tuning", script.tuning, reason, PROGRAM)
        config.derive("objective", script.objective, reason, PROGRAM)
    elif name == "pretrain":
        config.derive("tuning", "full", "pretraining trains every weight", *PRETRAINING)
        config.derive("objective", "pretrain", "litgpt pretrain alone takes this key", *PRETRAINING)
    elif script.tuning == "lora":
        config.state("tuning", "lora", *LORA, *FLAGS)
        config.assume("objective", "sft", "no file says the subcommand; its keys are those of finetune_lora")
    else:
        why = "no file says the subcommand, and there are no keys of LoRA"
        adapts = "adapter" in config.path.rpartition("/")[2].lower()
        config.assume("tuning", "adaption_prompt" if adapts else "full", why)
        config.assume("objective", "sft", why)
    if script.tuning != "lora":
        return
    on = tuple([part for key, part in TARGETS if config.on(key)])
    config.state("lora_target_modules", on, *FLAGS)
    for key, default in LORA.items():
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
        if word:
            config.state(flag, meaning.autocast == dtype, "precision")
        else:
            able = flag == "bf16"
            config.draft.put(by_bfloat16(flag, able, not able, "litgpt asks the GPU where no precision is said"))
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
    config.derive("fsdp_version", script.fsdp_version if since(config, _FSDP2_FROM) else 1, reason)
    does = "recomputes blocks" if script.checkpoints else "recomputes nothing"
    config.derive("activation_checkpointing", script.checkpoints, f"its strategy for several devices {does}")
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
    path = given if "." in given else f"torch.optim.{given}"
    row = find_optimizer(path)
    config.state("optimizer", row.name if row is not None else path, key)
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


def _spelled_optimizer(value: FactValue) -> Mapping[str, Plain] | None:
    path = _CLASSES.get(str(value))
    return {"optimizer.class_path": path} if path else None


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
    closed=frozenset(
        {
            "activation_checkpointing",
            "fused_loss",
            "parallelism",
            "zero_stage",
            "sync_each_batch",
            "attention_implementation",
            "fsdp",
        }
    ),
    spelled={
        "load_dtype": _spelled_dtype,
        "optimizer": _spelled_optimizer,
        "bf16": _spelled_flag("bf16-mixed"),
        "fp16": _spelled_flag("16-mixed"),
    },
)
