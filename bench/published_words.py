"""What the free-text fields of published measurements mean, in tables.

Each table is a sequence of (regular expression, meaning); the first that is found in the text, ignoring case, counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

Meaning = TypeVar("Meaning")
Words = Sequence[tuple[str, Meaning]]

DTYPES: Words[str] = (
    (r"^float32", "float32"),
    (r"^bfloat16", "bfloat16"),
    (r"^float16/bf", "float16"),
    (r"^float16", "float16"),
)
AUTOCASTS: Words[str | None] = (
    (r"^none", None),
    (r"deepspeed fp16", "float16"),
    (r"^fp16 \(bf16 if the card reports support", "bfloat16"),
    (r"^bf16", "bfloat16"),
    (r"^fp16", "float16"),
)
"""torch reports support of bfloat16 on every card since it counts emulation (cuda/__init__.py, is_bf16_supported)."""
ATTENTIONS: Words[str] = (
    (r"flash.?att|^flash\b(?!.*sdpa)|vllm-flash|^xformers", "flash_attention_2"),
    (r"sdpa|xformers|flex", "sdpa"),
    (r"eager", "eager"),
)
OPTIMIZERS: Words[str] = (
    (r"paged_adamw_8bit", "paged_adamw_8bit"),
    (r"paged_adamw_32bit", "paged_adamw_32bit"),
    (r"adamw_torch_8bit|torchao adamw8bit", "adamw_torch_8bit"),
    (r"adamw_torch_fused|fused\)", "adamw_torch_fused"),
    (r"adamw_bnb_8bit|adamw_8bit|adam8bit|bnb adamw8bit", "adamw_bnb_8bit"),
    (r"adamw_hf|decoupled adamw", "adamw_hf"),
    (r"adafactor", "adafactor"),
    (r"^adamw? ?\(torch|^adamw$|adamw_torch|torchao _adamw|^adam$", "adamw_torch"),
)
"""`decoupled AdamW` is Composer's, which steps one tensor after the other. What they leave out is not simulated."""
BITS: Words[int] = ((r"int8|8-bit", 8),)
QUANTIZATIONS: Words[tuple[str, bool]] = (
    (r"torchao nf4", ("nf4-tensor", True)),
    (r"nf4.*(dq|double|nested)", ("nf4", True)),
    (r"nf4", ("nf4", False)),
    (r"fp4", ("fp4", False)),
    (r"llm\.int8|bitsandbytes 8-bit|bitsandbytes int8", ("int8", False)),
    (r"gptq (4-bit|int4|int8)", ("gptq", False)),
    (r"awq int4", ("gptq", False)),
)
"""(kind, double quantization). An AWQ checkpoint has a GPTQ one's tensors."""
GROUP_SIZES: Words[int] = ((r"TheBloke/(Llama-2-70B|Mixtral-8x7B-Instruct-v0.1)-GPTQ", -1),)
"""Group sizes of GPTQ checkpoints other than 128, as their quantize_config.json has them."""
TARGETS: Words[tuple[str, ...] | str] = (
    (r"^all", "all-linear"),
    (r"^q,v\b|^q_proj,v_proj", ("q_proj", "v_proj")),
    (r"^q,k,v,o\+mlp|^q,k,v,o,gate,up,down", "all-linear"),
    (r"^q,k,v,o\b", ("q_proj", "k_proj", "v_proj", "o_proj")),
    (r"^q,k,v\b", ("q_proj", "k_proj", "v_proj")),
    (r"^q,v,o\+mlp", ("q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")),
    (r"^gate,up,down", ("gate_proj", "up_proj", "down_proj")),
    (r"^language layers", "all-linear"),
)
"""Short names of the modules under an adapter; what is in no table is a list of module names."""
OWN_TARGETS = {
    "litgpt": {"q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "projection"},
    "torchtune": {"o_proj": "output_proj", "gate_proj": "mlp", "up_proj": "mlp", "down_proj": "mlp"},
}
"""The same modules by a framework's own names."""


class Framework(NamedTuple):
    """What a framework does in every run, whatever the row says."""

    loop: str = "trainer"
    checkpointing: str = "reentrant"
    """The form of activation checkpointing, where a row says that it is on."""
    double_quantization: bool = False
    """Of 4-bit weights, where the row does not say."""
    prepares_kbit: bool = False
    """prepare_model_for_kbit_training widens what is not quantized."""
    narrows: bool = False
    """TRL's casting of embeddings and head to bfloat16 follows."""
    dropout: float = 0.0
    """Of adapters, in the recipes that the rows are from."""
    quantizes_from: str | None = None
    """dtype in which weights are quantized, where it is not that of the others."""
    clips: bool = True
    """Gradients are clipped by their norm."""
    caches: bool = False
    """Keys and values are returned, as `use_cache` has it unless a trainer turns it off."""
    model_type: str = ""
    """The framework's own model class."""
    adapter_in_float32: bool = True
    """Adapters are PEFT's, which are float32 on 16-bit and quantized weights."""
    loss: str = "causal-lm"
    adapters_apart: bool = True
    """FSDP wraps adapters by themselves."""
    within_units: bool = False
    """torch's checkpoint_wrapper wraps layers inside of FSDP's units (train.py@05ed9f2a)."""
    synchronises: bool = False
    """FSDP reduces gradients after every micro-batch."""
    reduces_in: str | None = None
    """dtype of FSDP 2's reduction, where it is not that of the computation."""


FRAMEWORKS: Words[Framework] = (
    (r"fms-hf-tuning", Framework(double_quantization=True, narrows=True, dropout=0.1)),
    (
        r"^litgpt",
        Framework(
            "script",
            "nonreentrant",
            clips=False,
            model_type="litgpt",
            adapter_in_float32=False,
            dropout=0.05,
            quantizes_from="float16",
            adapters_apart=False,
        ),
    ),
    (r"fsdp_qlora", Framework("script", "reentrant", adapter_in_float32=False, within_units=True)),
    (r"hand-written loop, steady", Framework("script", clips=False, caches=True)),
    (r"hand-written loop", Framework("script", clips=False)),
    (r"method_comparison", Framework("script")),
    (r"lightning fabric", Framework("script", clips=False)),
    (
        r"torchtune",
        # the recipes of the table's commit have CEWithChunkedOutputLoss (recipes/configs/llama3_1/*.yaml@30b8519e8)
        Framework(
            "plain",
            "nonreentrant",
            clips=False,
            model_type="torchtune",
            adapter_in_float32=False,
            loss="chunked-logits",
            synchronises=True,
        ),
    ),
    (r"llm-foundry|composer", Framework("script", "nonreentrant", loss="in-place", synchronises=True)),
    (
        r"torchtitan",
        Framework("plain", "nonreentrant", model_type="torchtitan", reduces_in="float32", synchronises=True),
    ),
    (r"^unsloth", Framework(prepares_kbit=True, narrows=True, loss="cut")),
    (r"sfttrainer|trl", Framework(prepares_kbit=True, narrows=True)),
    (r"axolotl|trl|llama-factory|trainer|qwen finetune|generate|finetun", Framework(prepares_kbit=True)),
    (r"benchmark|accelerate", Framework()),
)

LOSSES: Words[str] = (
    (r"liger fused linear cross entropy", "fused"),
    (r"cutcrossentropy", "cut"),
    (r"fast-kernels|peft-bnb-foak|fused \(unsloth", "in-place"),
    (r"packed \+ chunked ce", "chunked-logits"),
    (r"logits\.mean\(\)", "logits-mean"),
)
"""What `extra` says of the loss, where it is not the library's own."""
KERNELS: Words[tuple[str, ...]] = ((r"fused RMSNorm/RoPE", ("rope", "rms_norm")),)
"""Kernels of others, which hold and overwrite what Liger's do."""
GENERATIONS: Words[tuple[int, int]] = (
    (r"litgpt generate defaults", (6, 50)),
    (r"prompt is the short default", (6, 0)),
    (r"context of 1\b", (1, 0)),
)
"""(prompt, generated) tokens that a script's defaults or `extra` stand for; 0: as the row says."""
UNREALISED: Words[str] = (
    (r"real sample lengths|samples are shorter|no packing: real", "the lengths of the real samples are not known"),
    (r"unpacked", "the lengths of the real samples are not known"),
    (r"one image", "an image is part of every sample"),
)
"""What `seq_note` says that leaves the length open."""
UNKNOWN: Words[str] = (
    (r"^suspect", "the source's figure is below what weights, gradients and states take"),
    (r"activation checkpointing mode", "whether layers are checkpointed is not said"),
    (r"to the stated length assumed", "the lengths of the real samples are not known"),
)
"""What `missing` says of the run's shape."""
PARALLEL: Words[str] = (
    (r"tensor parallel|\btp ?\d|tp\d", "tensor parallelism is not simulated"),
    (r"context parallel|pp ?\d|ep\d", "this kind of parallelism is not simulated"),
    (r"device_map|split over", "a model over several GPUs by layers is not simulated"),
    (r"ddp-like", "this kind of parallelism is not simulated"),
    (r"\(1 gpu\)$", "the DeepSpeed stage is not said"),
)
"""Kinds of parallelism that the simulator does not follow."""
RELEASES: Sequence[tuple[str, dict[str, tuple[int, ...]]]] = (
    ("2020-01", {"torch": (1, 4, 0), "transformers": (2, 11, 0), "peft": (0, 3, 0)}),
    ("2022-01", {"torch": (1, 10, 1), "transformers": (4, 15, 0), "peft": (0, 3, 0)}),
    ("2023-03", {"torch": (2, 0, 0), "transformers": (4, 28, 1), "peft": (0, 3, 0), "bitsandbytes": (0, 37, 2)}),
    ("2023-06", {"torch": (2, 0, 1), "transformers": (4, 30, 2), "peft": (0, 4, 0), "bitsandbytes": (0, 39, 1)}),
    ("2023-10", {"torch": (2, 1, 0), "transformers": (4, 34, 1), "peft": (0, 5, 0), "bitsandbytes": (0, 41, 1)}),
    ("2024-02", {"torch": (2, 2, 0), "transformers": (4, 38, 1), "peft": (0, 9, 0), "bitsandbytes": (0, 42, 0)}),
    (
        "2024-06",
        {
            "torch": (2, 3, 1),
            "transformers": (4, 41, 2),
            "peft": (0, 11, 1),
            "bitsandbytes": (0, 43, 1),
            "liger_kernel": (0, 1, 0),
        },
    ),
    (
        "2024-09",
        {
            "torch": (2, 4, 1),
            "transformers": (4, 45, 2),
            "peft": (0, 13, 2),
            "bitsandbytes": (0, 44, 1),
            "liger_kernel": (0, 3, 1),
        },
    ),
    (
        "2025-01",
        {
            "torch": (2, 5, 1),
            "transformers": (4, 48, 1),
            "peft": (0, 14, 0),
            "bitsandbytes": (0, 45, 0),
            "liger_kernel": (0, 5, 2),
        },
    ),
    (
        "2025-05",
        {
            "torch": (2, 7, 0),
            "transformers": (4, 51, 3),
            "peft": (0, 15, 2),
            "bitsandbytes": (0, 45, 5),
            "liger_kernel": (0, 5, 10),
        },
    ),
    (
        "2025-09",
        {
            "torch": (2, 8, 0),
            "transformers": (4, 56, 2),
            "peft": (0, 17, 1),
            "bitsandbytes": (0, 47, 0),
            "liger_kernel": (0, 6, 2),
        },
    ),
    (
        "2026-01",
        {
            "torch": (2, 9, 1),
            "transformers": (4, 57, 3),
            "peft": (0, 18, 1),
            "bitsandbytes": (0, 49, 0),
            "liger_kernel": (0, 6, 4),
        },
    ),
    (
        "2026-05",
        {
            "torch": (2, 11, 0),
            "transformers": (5, 10, 0),
            "peft": (0, 20, 0),
            "bitsandbytes": (0, 50, 0),
            "liger_kernel": (0, 7, 0),
        },
    ),
)
"""Releases of the time, for rows that name no versions: the last line whose month is not after the row's."""


def meaning(words: Words[Meaning], text: str, default: Any = None) -> Any:  # noqa: ANN401  as the table's values
    """What the first fitting line of a table says of `text`."""
    for pattern, value in words:
        if re.search(pattern, text, re.IGNORECASE):
            return value
    return default


METHODS: Mapping[str, str] = {
    "ADALORA": "adalora",
    "FOURIERFT": "fourierft",
    "IA3": "ia3",
    "LN_TUNING": "lntuning",
    "LOHA": "loha",
    "LOKR": "lokr",
    "MISS": "miss",
    "OFT": "oft",
    "PROMPT_TUNING": "prompttuning",
    "P_TUNING": "promptencoder",
    "VERA": "vera",
}
"""PEFT's types of adapters, LoRA aside, by the names of their configs."""
