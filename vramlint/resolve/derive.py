"""What follows from other facts: precision, dtype of the weights, optimizer, buckets, parallelism."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from msgspec.structs import replace

from vramlint.catalog.optimizers import find_optimizer
from vramlint.facts import Candidate, Fact, Origin
from vramlint.resolve.board import Board, by_default, derived, possible, with_roads
from vramlint.resolve.defaults import any_default, has_lora, library_default, loads_a_model
from vramlint.resolve.network import stored_number
from vramlint.resolve.sharing import apart, by_global_batch
from vramlint.surfaces.families import model_type_of_name

_TRL_STRING_MODELS = (0, 24, 0)
"""The release from which TRL loads a model given as a string by itself (trainer/utils.py, create_model_from_path)."""
WHOLE_SEQUENCES = frozenset({"ffd", "bfd", "bfd_split"})
"""Strategies of packing that keep track of where sequences begin."""


def model_type(board: Board) -> Fact | None:
    """The architecture, from the catalog or a config.json; as the model's name suggests where neither knows it."""
    network = board.network
    if not board.is_missing("model_type"):
        return None
    if network is None or not network.model_type:
        suggested = model_type_of_name(str(board.value("model") or ""))
        return possible("model_type", (suggested,), "by the model's name") if suggested else None
    return derived("model_type", network.model_type, network.source, board.facts.get("model"))


def quantization_bits(board: Board) -> Fact | None:
    """16 unless the files or the checkpoint say otherwise."""
    if not board.is_missing("quantization_bits"):
        return None
    network = board.network
    if network and network.quantization:
        said = stored_number(network, "bits", "w_bit", "nbits")
        bits = said or (8 if network.quantization in ("int8", "fp8") else 4)
        return derived("quantization_bits", bits, f"the checkpoint is quantized ({network.source})")
    return derived("quantization_bits", 16, "no quantization is asked for")


def quantization_type(board: Board) -> Fact | None:
    """nf4 or fp4 for 4 bits, int8 for 8; what the checkpoint says if it is quantized already."""
    if not board.is_missing("quantization_type"):
        return None
    if board.network and board.network.quantization:
        return derived("quantization_type", board.network.quantization, board.network.source)
    if board.value("quantization_bits") == 8:
        return derived("quantization_type", "int8", "LLM.int8() is the only 8-bit form of bitsandbytes")
    return any_default(board, "quantization_type")


def tuning(board: Board) -> Fact | None:
    """Full unless adapters are made; LoRA on a 4-bit base is QLoRA."""
    fact = board.facts.get("tuning")
    bits = board.value("quantization_bits")
    if fact is None:
        return derived("tuning", "full", "no adapter is made")
    if fact.value == "lora" and bits == 4:
        place = fact.place
        reason = "LoRA on a 4-bit base"
        return replace(fact, candidates=(Candidate("qlora", place),), reason=reason)
    return None


def load_dtype(board: Board) -> Fact | None:
    """The dtype of the unquantized weights after loading."""
    return _loaded_dtype(board, "load_dtype")


def arrival_dtype(board: Board) -> Fact | None:
    """Their dtype on the device before the program casts them there."""
    return _loaded_dtype(board, "arrival_dtype") if board.value("cast_on_device") is True else None


def _loaded_dtype(board: Board, name: str) -> Fact | None:
    """The fact `name` as the loader settles it: what it is given, or its default."""
    fact = board.facts.get(name)
    if fact is not None:
        return _checkpoint_dtype(board, fact) if fact.value == "auto" else None
    setting = board.setting
    if not loads_a_model(board) and not setting.from_config:
        return None
    if setting.from_config:
        return derived(name, "float32", "fresh weights have torch's default dtype")
    found = None
    if setting.command and setting.trl:  # trl.ModelConfig hands its own default on to from_pretrained
        found = library_default(board, name, "trl", "ModelConfig.dtype")
        found = found if found is not None and found.value else None
    elif setting.string_model and setting.libraries.trl >= _TRL_STRING_MODELS:
        found = library_default(board, name, "trl", "create_model_from_path.dtype")
    if found is None:
        quantized = board.value("quantization_bits") in (4, 8)
        key = "from_pretrained.dtype[bitsandbytes]" if quantized else "from_pretrained.dtype"
        found = library_default(board, name, "transformers", key)
    return _checkpoint_dtype(board, found) if found and found.value == "auto" else found


def _checkpoint_dtype(board: Board, asked: Fact) -> Fact:
    """What "auto" becomes: the dtype of the checkpoint, a range where no source states it."""
    network = board.network
    said = f"{asked.key} is auto in {asked.library}" if asked.library else f"{asked.key} is auto"
    dtype = network.dtype if network else None
    if network and dtype and network.dtype_status == "stated":
        return derived(asked.name, dtype, f"{said}: the checkpoint's dtype, {network.source}", asked)
    likely = dtype if dtype in ("bfloat16", "float16") else "bfloat16"
    reason = f"{said}, and no source states the checkpoint's dtype"
    if dtype:
        reason += f" ({dtype} in its family)"
    candidates = (Candidate(likely, asked.place), Candidate("float32", asked.place))
    return with_roads(Fact(asked.name, candidates, Origin.ASSUMED, asked.key, reason=reason), asked)


def half_flags(board: Board) -> Fact | None:
    """bf16, where TRL turns it on unless fp16 is set."""
    if not board.is_missing("bf16"):
        return None
    found = any_default(board, "bf16")
    if found and found.value is True and board.value("fp16") is True:
        return by_default("bf16", False, found.library, found.key)
    return found


def precision(board: Board) -> Fact | None:
    """How the step computes: autocast, or the dtype of the weights."""
    if not board.is_missing("precision"):
        return None
    for flag in ("bf16", "fp16"):
        if board.value(flag) is True:
            return _inherited("precision", f"{flag}-mixed", board.facts[flag])
    dtype = board.facts.get("load_dtype")
    pure = {"bfloat16": "bf16-pure", "float16": "fp16-pure"}
    if dtype is None or not isinstance(dtype.value, str):
        return _inherited("precision", "fp32", board.facts["bf16"]) if "bf16" in board.facts else None
    if (
        board.value("loop") == "accelerate"
        and board.is_missing("launcher")
        and not {"bf16", "fp16"} & board.facts.keys()
    ):
        word, reason = pure.get(dtype.value, "fp32"), "nothing is cast unless accelerate's own configuration says so"
        return Fact("precision", (Candidate(word, dtype.place),), Origin.ASSUMED, reason=reason)
    if dtype.value in pure:
        return derived("precision", pure[dtype.value], f"the weights are {dtype.value} and nothing is cast", dtype)
    fact = board.facts.get("bf16")
    return _inherited("precision", "fp32", fact) if fact else derived("precision", "fp32", "nothing is cast", dtype)


def _inherited(name: str, value: str, fact: Fact) -> Fact:
    """A fact that only renames another one keeps where that one comes from."""
    candidate = Candidate(value, fact.place)
    return replace(fact, name=name, candidates=(candidate,))


def optimizer(board: Board) -> Fact | None:
    """The optimizer by its catalog name, as DeepSpeed replaces it."""
    fact = board.facts.get("optimizer")
    setting = board.setting
    offloaded = board.value("offload_optimizer") in ("cpu", "nvme")
    if setting.deepspeed and setting.deepspeed_optimizer and fact and isinstance(fact.value, str):
        on_host = offloaded and "adam" in fact.value.lower()
        row = find_optimizer("DeepSpeedCPUAdam" if on_host else f"ds:{fact.value}") or find_optimizer(fact.value)
        return _renamed(fact, row.name) if row else None
    if fact is None:
        fact = any_default(board, "optimizer")
    if fact is None or not isinstance(fact.value, str):
        return None
    accelerated = setting.trainer or board.value("loop") == "accelerate"
    if setting.deepspeed and accelerated and offloaded and setting.host_optimizer and "adam" in fact.value.lower():
        cpu = find_optimizer("DeepSpeedCPUAdam")
        reason = f"Accelerate replaces {fact.value} by DeepSpeedCPUAdam when ZeRO offloads the optimizer"
        return derived("optimizer", cpu.name if cpu else "DeepSpeedCPUAdam", reason, fact)
    row = find_optimizer(fact.value)
    return _renamed(fact, row.name) if row else (fact if board.is_missing("optimizer") else None)


def _renamed(fact: Fact, name: str) -> Fact:
    candidate = fact.candidates[0]
    renamed = Candidate(name, candidate.place, candidate.condition)
    return replace(fact, candidates=(renamed,))


_AUTO_BUCKETS: Mapping[str, tuple[Callable[[int], int], str]] = MappingProxyType(
    {
        "reduce_bucket_size": (lambda hidden: hidden * hidden, "hidden_size²"),
        "prefetch_bucket_size": (lambda hidden: int(0.9 * hidden * hidden), "0.9 · hidden_size²"),
        "parameter_persistence_threshold": (lambda hidden: 10 * hidden, "10 · hidden_size"),
    }
)
"""What the Hugging Face Trainer puts for "auto", elements (transformers 5.23.0, integrations/deepspeed.py)."""


def automatic_bucket(board: Board, name: str) -> Fact | None:
    """An `"auto"` of the DeepSpeed JSON as the Hugging Face Trainer fills it; DeepSpeed's default for other keys."""
    fact = board.facts.get(name)
    if fact is None:
        return any_default(board, name)
    if fact.value != "auto":
        return None
    hidden = board.network.hidden_size if board.network else None
    if name in _AUTO_BUCKETS and board.setting.trainer:
        if hidden is None:
            return None
        rule, formula = _AUTO_BUCKETS[name]
        return derived(name, rule(hidden), f'"auto" is {formula} of the model', fact)
    default = any_default(board, name)
    value = default.value if default else None
    return derived(name, value, f'DeepSpeed drops "auto" here and takes its default, {value}', fact)


def overlap_comm(board: Board) -> Fact | None:
    """On at stage 3, off below, unless set (deepspeed 0.19.8, runtime/zero/config.py)."""
    fact = board.facts.get("overlap_comm")
    if not board.setting.deepspeed or (fact and fact.value != "auto"):
        return None
    on = board.value("zero_stage") == 3
    return by_default("overlap_comm", on, board.setting.label("deepspeed"), "zero_optimization.overlap_comm")


def accumulation(board: Board) -> Fact | None:
    """What DeepSpeed's batch identity implies, else the trainer's default, else one."""
    if not board.is_missing("gradient_accumulation_steps"):
        return None
    total, micro = board.integer("global_batch_size"), board.integer("micro_batch_size")
    gpus = board.integer("world_size")
    if board.setting.deepspeed and not board.setting.trainer and total and micro and gpus:
        reason = "train_batch_size / (micro batch size · GPUs)"
        return derived("gradient_accumulation_steps", max(1, total // (micro * apart(board, gpus))), reason)
    config = board.facts.get("deepspeed_config")
    if config is not None and config.origin is Origin.UNKNOWN and not board.setting.trainer:
        return possible("gradient_accumulation_steps", (1,), f"{config.reason}; one is assumed")
    found = any_default(board, "gradient_accumulation_steps")
    if found is None and total and micro and board.setting.framework:
        return by_global_batch(board, total, micro)
    return found or derived("gradient_accumulation_steps", 1, "nothing accumulates gradients")


def micro_batch_size(board: Board) -> Fact | None:
    """What DeepSpeed's batch identity implies, else the trainer's default; in other loops only the files can say."""
    if not board.is_missing("micro_batch_size"):
        return None
    total, steps = board.integer("global_batch_size"), board.integer("gradient_accumulation_steps")
    gpus = board.integer("world_size") or board.setting.world_size
    if board.setting.deepspeed and not board.setting.trainer and total and steps and gpus:
        reason = "train_batch_size / (gradient accumulation · GPUs)"
        return derived("micro_batch_size", max(1, total // (steps * apart(board, gpus))), reason)
    return any_default(board, "micro_batch_size")


def max_grad_norm(board: Board) -> Fact | None:
    """The trainer's bound; hand-written loops clip only where they say so."""
    if not board.is_missing("max_grad_norm"):
        return None
    return any_default(board, "max_grad_norm") or derived("max_grad_norm", 0, "nothing clips gradients")


def use_cache(board: Board) -> Fact | None:
    """Whether the training forward keeps a key/value cache.

    transformers 5 turns it off in the trainer; before, the model's default holds unless checkpointing is on
    (4.57.6, trainer.py).
    """
    if not board.is_missing("use_cache") or not board.setting.trainer:
        return None
    label = board.setting.label("transformers")
    if board.setting.libraries.transformers >= (5,):
        return by_default("use_cache", False, label, "use_cache")
    return by_default("use_cache", board.value("activation_checkpointing") is not True, label, "use_cache")


def checkpointing(board: Board) -> Fact | None:
    """Activation checkpointing: the trainer's default; off in a hand-written loop."""
    if not board.is_missing("activation_checkpointing"):
        return None
    found = any_default(board, "activation_checkpointing")
    return found or derived("activation_checkpointing", False, "nothing turns activation checkpointing on")


def packing(board: Board) -> Fact | None:
    """TRL's default; the plain trainer leaves rows as they are."""
    if not board.is_missing("packing") or not board.setting.trainer:
        return None
    found = any_default(board, "packing")
    if found is None and board.value("objective") == "sft":
        return derived("packing", False, "the trainer does not pack")
    return found


def padding_free(board: Board) -> Fact | None:
    """TRL lays packed rows end to end, except where its strategy cuts sequences anywhere (trainer/sft_trainer.py)."""
    if not board.is_missing("padding_free") or board.value("packing") is not True or not board.setting.trl:
        return None
    default = library_default(board, "", "trl", f"{board.setting.trl}.packing_strategy")
    strategy = board.value("packing_strategy") or (default.value if default else None)
    if strategy not in WHOLE_SEQUENCES:
        return None
    return derived("padding_free", True, f"packing by {strategy} is free of padding", board.facts.get("packing"))


def lora_target_modules(board: Board) -> Fact | None:
    """PEFT's table by architecture, where the adapters' config names no modules."""
    known = board.network.model_type if board.network else board.value("model_type")
    if not board.is_missing("lora_target_modules") or not has_lora(board) or not known:
        return None
    return library_default(board, "lora_target_modules", "peft", f"LoraConfig.target_modules[{known}]")


def fused_loss(board: Board) -> Fact | None:
    """Whether the logits are never materialised: Liger, or TRL's own fused head."""
    if not board.is_missing("fused_loss"):
        return None
    return any_default(board, "fused_loss") or derived("fused_loss", False, "nothing fuses the loss")
