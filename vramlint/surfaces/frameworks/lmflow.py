"""LMFlow: `examples/finetune.py --flags` behind `accelerate launch` or `deepspeed`.

lmflow 1.0 and the state after it: src/lmflow/args.py, models/hf_model_mixin.py, pipeline/*.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.facts import FactValue
from vramlint.patterns import lazy
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.frameworks.trainer_rows import trained_by_trainer, trainer_rows
from vramlint.surfaces.launch.framework_programs import PROGRAM
from vramlint.surfaces.models import FROZEN_BY_HAND
from vramlint.values import Plain

_ROWS = (
    Row("model_name_or_path", "model", "text"),
    Row("trust_remote_code", "trust_remote_code", "flag"),
    Row("use_dora", "use_dora", "flag"),
    Row("reference_model_name_or_path", "reference_model", "text"),
    Row("max_prompt_length", "prompt_length", "bound"),
    *trainer_rows(),
)
_ADAPTERS = (
    Row("lora_r", "lora_r", "count"),
    Row("lora_alpha", "lora_alpha", "number"),
    Row("lora_dropout", "lora_dropout", "number"),
)
_DTYPES: Mapping[Plain, FactValue] = MappingProxyType({"bf16": "bfloat16", "fp16": "float16", "none": None})
_OBJECTIVES = (
    (lazy(r"(?:iterative_)?dpo"), "dpo"),
    (lazy(r"reward_model"), "reward"),
    (lazy(r"raft"), "raft"),
    (lazy(r"multi_?modal"), "sft-vlm"),
    (lazy(r"finetune"), "sft"),
)
"""Programs by words of their names (examples/*.py)."""
_PAIR = 2048
"""Tokens of prompt and answer by default (args.py, DPOv2AlignerArguments)."""
_LONGEST_BLOCK = 1024
"""Tokens of a block where the tokenizer takes more and no block_size is given (models/hf_decoder_model.py)."""
_FOUR = 4


def _complete(config: Config) -> None:
    trained_by_trainer(config)
    program = config.text(PROGRAM)
    for pattern, objective in _OBJECTIVES:
        if pattern.search(program.replace("\\", "/").rpartition("/")[2]):
            config.state("objective", objective, PROGRAM)
            break
    if config.on("do_dpo_align"):
        config.state("objective", "dpo", "do_dpo_align")
    config.assume("objective", "sft", "LMFlow's program says the objective; sft is assumed")
    _adapters(config)
    _weights(config)
    _lengths(config)
    if config.on("use_customized_optim"):
        config.state("optimizer", config.text("customized_optim"), "customized_optim", over=True)
    if config.on("use_lisa"):
        reason = f"{FROZEN_BY_HAND}: LISA trains some layers at a time"
        config.derive("tuning", "full", reason, "use_lisa", over=True)


def _adapters(config: Config) -> None:
    """`use_lora`, `use_dora` and `use_qlora`, which implies LoRA (args.py, ModelArguments.__post_init__)."""
    switch = next((key for key in ("use_qlora", "use_lora", "use_dora") if config.on(key)), "")
    if not switch:
        config.state("tuning", "full", "use_lora")
        config.draft.facts.pop("use_dora", None)
        return
    config.state("tuning", "qlora" if switch == "use_qlora" else "lora", switch)
    for row in _ADAPTERS:
        if not config.say(row.fact, row.key, row.converter):
            config.state(row.fact, config.default(row.key), row.key)
    targets = config.words("lora_target_modules")
    if targets:
        config.state("lora_target_modules", targets[0] if len(targets) == 1 else targets, "lora_target_modules")
    if switch == "use_qlora":
        key = "bits" if config.given("bits") and not config.given("quant_bit") else "quant_bit"
        bits = config.integer(key) or _FOUR
        config.state("quantization_bits", bits, key)
        if bits == _FOUR:
            config.state("quantization_type", config.text("quant_type") or "nf4", "quant_type")
            config.state("double_quantization", config.on("double_quant"), "double_quant")
            config.derive("quantization_compute_dtype", "bfloat16", "LMFlow multiplies 4-bit weights in bfloat16")
            config.derive("quantization_storage_dtype", "bfloat16", "LMFlow stores 4-bit weights as bfloat16")


def _weights(config: Config) -> None:
    config.translate("load_dtype", "torch_dtype", _DTYPES)
    if config.on("use_flash_attention"):
        config.state("attention_implementation", "flash_attention_2", "use_flash_attention")


def _lengths(config: Config) -> None:
    """Samples are cut to blocks; with grouping they fill them (pipeline/finetuner.py, group_text)."""
    for key in ("block_size", "max_length", "model_max_length"):
        config.say("sequence_length", key, "bound")
    objective = config.fact("objective")
    pairs = objective is not None and objective.value == "dpo"
    config.state("sequence_length", _PAIR if pairs else _LONGEST_BLOCK, "max_length" if pairs else "block_size")
    config.state("packing", not config.on("disable_group_texts"), "disable_group_texts")


FRAMEWORK = Framework(
    "lmflow",
    "LMFlow",
    "lmflow",
    _ROWS,
    _complete,
    loose=False,
    inherits=("TrainingArguments",),
)
