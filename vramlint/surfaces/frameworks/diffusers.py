"""diffusers' example programs, by their command lines alone (examples/*/*.py, diffusers 0.8 to 0.40).

What each program takes at which release is in its table `diffusers-<program>.tsv`. The pipeline's other networks (text
encoders, VAE) are frozen and are not counted: the figure of such a run is a bound from the network that removes noise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from vramlint.patterns import lazy
from vramlint.surfaces.diffusion import OBJECTIVE
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.launch.framework_programs import PROGRAM
from vramlint.values import Scalar, Table

_ROWS = (
    Row("pretrained_model_name_or_path", "model", "text"),
    Row("train_batch_size", "micro_batch_size", "count"),
    Row("max_train_steps", "max_steps", "count"),
    Row("gradient_accumulation_steps", "gradient_accumulation_steps", "count"),
    Row("gradient_checkpointing", "activation_checkpointing", "flag"),
    Row("max_grad_norm", "max_grad_norm", "number"),
    Row("adam_weight_decay", "weight_decay", "number"),
    Row("resolution", "image_size", "count"),
)
_ADAPTERS = (
    Row("rank", "lora_r", "count"),
    Row("lora_alpha", "lora_alpha", "number"),
    Row("lora_dropout", "lora_dropout", "number"),
)

_LORA = lazy(r"_lora(?:_|$)")
_BESIDE: Mapping[str, str] = MappingProxyType(
    {
        "train_controlnet": "a ControlNet",
        "textual_inversion": "the embedding of a new token",
        "train_custom_diffusion": "keys and values of its cross attention",
    }
)
"""Programs, by how their names begin, that freeze the network that removes noise and train something else."""
_FRESH = "train_unconditional"
"""The program that makes its network by itself; it clips gradients at 1.0 whatever is asked for."""
_ATTENTION = ("to_k", "to_q", "to_v", "to_out.0")
_TARGETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train_text_to_image_lora": _ATTENTION,
        "train_text_to_image_lora_sdxl": _ATTENTION,
        "train_dreambooth_lora": (*_ATTENTION, "add_k_proj", "add_v_proj"),
        "train_dreambooth_lora_sdxl": _ATTENTION,
        "train_dreambooth_lora_sd15_advanced": _ATTENTION,
        "train_dreambooth_lora_sdxl_advanced": _ATTENTION,
        "train_dreambooth_lora_lumina2": _ATTENTION,
        "train_dreambooth_lora_qwen_image": _ATTENTION,
        "train_dreambooth_lora_z_image": _ATTENTION,
        "train_dreambooth_lora_sana": _ATTENTION[:3],
    }
)
"""What the programs give LoraConfig where `lora_layers` names nothing; those of the others changed by release."""

_OPTIMIZERS: Mapping[str, str] = MappingProxyType({"adamw": "adamw_torch", "prodigy": "prodigy"})
_MIXED = "mixed_precision"
_QUANTIZED = "bnb_quantization_config_path"
_DTYPES: Mapping[str, str] = MappingProxyType({"bf16": "bfloat16", "fp16": "float16"})


def program_of(table: Table) -> str:
    """The name of the program that a command line starts, without its folder and suffix."""
    started = table.get(PROGRAM)
    path = str(started.value) if isinstance(started, Scalar) else ""
    return re.split(r"[/\\.]", path.removesuffix(".py"))[-1]


def _complete(config: Config) -> None:
    program = program_of(config.table)
    config.derive("loop", "accelerate", "diffusers' examples have loops of their own, with an Accelerator")
    config.by_program("objective", OBJECTIVE)
    beside = next((what for name, what in _BESIDE.items() if program.startswith(name)), "")
    adapted = _LORA.search(program) is not None
    if adapted:
        _adapter(config, program)
    else:
        config.by_program("tuning", "full")
    if beside:
        reason = f"{program}.py trains {beside}; the network that removes noise is frozen"
        config.derive("frozen_parameters", ("^",), reason)
    _precision(config, whole=not (adapted or beside), adapted=adapted)
    _optimizer(config)
    if program == _FRESH:
        reason = "the program makes a network of its own, of a size that model_config_name_or_path may say"
        config.unknown("model", reason, "model_config_name_or_path")
        config.derive("max_grad_norm", 1.0, "the program clips gradients at 1.0")
    config.derive("torch_compile", False, "the program compiles nothing")


def _adapter(config: Config, program: str) -> None:
    """LoRA on the network that removes noise; without an option of its own alpha is the rank."""
    config.by_program("tuning", "lora")
    for row in _ADAPTERS:
        if not config.say(row.fact, row.key, row.converter) and config.default(row.key) is not None:
            config.state(row.fact, config.default(row.key), row.key)
    rank = config.integer("rank")
    if rank is not None:
        config.derive("lora_alpha", rank, "the program takes the rank for alpha", "rank")
    if config.on("use_dora"):
        config.state("use_dora", True, "use_dora")
    layers = config.words("lora_layers")
    if layers:
        config.state("lora_target_modules", layers, "lora_layers")
    elif program in _TARGETS:
        config.derive("lora_target_modules", _TARGETS[program], f"{program}.py names them")
    if config.given(_QUANTIZED):
        config.unknown("quantization_bits", "a file says how the base is quantized", _QUANTIZED)
    if config.on("do_fp8_training"):
        config.state("fp8", True, "do_fp8_training")


def _precision(config: Config, *, whole: bool, adapted: bool) -> None:
    """What is frozen is cast to the dtype of mixed precision, what trains as a whole stays in float32.

    Adapters are made in the dtype of their base, and widened to float32 only for float16 (`cast_training_params`).
    """
    mixed = config.text(_MIXED)
    if config.given(_MIXED):
        for word in _DTYPES:
            config.state(word, mixed == word, _MIXED)
        config.state("precision", f"{mixed}-mixed" if mixed in _DTYPES else "fp32", _MIXED)
    else:
        on = (word for word in _DTYPES if (fact := config.around.get(word)) is not None and fact.value is True)
        mixed = next(on, mixed)
    if config.is_unknown(_MIXED):
        config.unknown("load_dtype", "the dtype of mixed precision is that of the frozen weights", _MIXED)
        return
    if whole:
        config.derive("load_dtype", "float32", "what trains is loaded in float32")
        return
    dtype = _DTYPES.get(mixed, "float32")
    config.derive("load_dtype", dtype, "frozen weights are cast to the dtype of mixed precision", _MIXED)
    if adapted:
        kept = "float32" if mixed == "fp16" else dtype
        config.derive("trainable_dtype", kept, "adapters take the dtype of their base, but not float16", _MIXED)


def _optimizer(config: Config) -> None:
    name = config.text("optimizer").lower() or "adamw"
    if name == "adamw" and config.on("use_8bit_adam"):
        config.state("optimizer", "adamw_bnb_8bit", "use_8bit_adam")
    else:
        config.state("optimizer", _OPTIMIZERS.get(name, _OPTIMIZERS["adamw"]), "optimizer", "use_8bit_adam")


FRAMEWORK = Framework(
    "diffusers",
    "diffusers",
    "diffusers",
    _ROWS,
    _complete,
    keys_of=lambda table: f"diffusers-{program_of(table)}",
    commands_only=True,
)
