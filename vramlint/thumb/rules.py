"""The rules of thumb as people know them: name, formula, where it comes from, why it is coarse."""

from __future__ import annotations

from types import MappingProxyType

from msgspec import Struct

ESTIMATE = "[NLP] LLM 训练时 GPU 显存耗用量估计"
UNITS = "模型参数单位 / 推理显存 / 训练显存计算"
TRANSFORMER = "transformer 系列 5 — transformer 显存占用分析"
PRIMITIVES = "LLM 分布式训练第一课 (通讯原语)"
REQUIRED = "大模型所需 GPU 内存"
ANATOMY = "Hugging Face: Model training anatomy"


class Rule(Struct, frozen=True):
    """One rule of thumb."""

    name: str
    label: str
    """What people call it."""
    formula: str
    article: str
    """Title of the article that made it known."""
    coarse: str
    """Why its figure differs from the simulated one."""
    unit: str = "bytes"
    """bytes, parameters or FLOP."""


_RULES = (
    Rule(
        "weights",
        "weights",
        "parameters × bytes per parameter (fp32 4, fp16 2, int8 1, int4 0.5)",
        UNITS,
        "Buffers, tied tensors, quantization constants and the layers that stay unquantized are left out.",
    ),
    Rule(
        "states-16",
        "16 bytes per parameter",
        "16 × parameters (fp16 weights 2, fp16 gradients 2, fp32 weights 4, momentum 4, variance 4)",
        ESTIMATE,
        "It is the bookkeeping of DeepSpeed and Megatron; autocast reaches 16 another way: fp32 weights and gradients, "
        "and a 16-bit copy only while the forward pass runs.",
    ),
    Rule(
        "states-18",
        "18 bytes per parameter",
        "18 × parameters (weights 4 + 2, gradients 4, Adam 8)",
        ANATOMY,
        "The 16-bit copy of the weights is autocast's cache, which lives in the forward pass only.",
    ),
    Rule(
        "states-20",
        "20 bytes per parameter",
        "20 × parameters (weights 2 + 4, gradients 2 + 4, Adam 8)",
        TRANSFORMER,
        "Gradients never exist in both precisions at once under autocast; under DeepSpeed only bucket by bucket.",
    ),
    Rule(
        "states-24",
        "24 bytes per parameter",
        "24 × parameters (weights 4 + 4, gradients 4 + 4, Adam 8)",
        TRANSFORMER,
        "A second fp32 copy of weights and gradients does not exist in plain fp32 training; 16 × parameters do.",
    ),
    Rule(
        "states-with-updates",
        "112 GB for 7B",
        "(2 + 2 + 2 + 2 + 4 + 4) × parameters (weights and gradients before and after the update, fp32 Adam)",
        PRIMITIVES,
        "Optimizers update in place: there is no second copy, and states of 16-bit weights are 16-bit themselves.",
    ),
    Rule(
        "simple-training",
        "weights, gradients, Adam, kernels",
        "weights + gradients + 2 × weights + 1.3 GB of CUDA kernels",
        UNITS,
        "No activations; integer weights are not trained, and the CUDA context is nearer 0.3 GiB with lazy loading.",
    ),
    Rule(
        "optimizer-copies",
        "12 bytes per parameter for AdamW",
        "12 × parameters for AdamW (fp32 copy, momentum, variance), 6 for 8-bit, 8 for SGD with momentum",
        REQUIRED,
        "Only mixed-precision engines add the fp32 copy; torch and bitsandbytes do not, and two 8-bit states take 2.",
    ),
    Rule(
        "largest-model",
        "card / 16",
        "card memory / 16",
        ESTIMATE,
        "Activations, CUDA context and fragmentation take their share; adapters, offload and ZeRO change the divisor.",
        unit="parameters",
    ),
    Rule(
        "largest-model-half-card",
        "half the card for activations",
        "card memory / 32: half of the card for activations",
        ESTIMATE,
        "Activations depend on batch, length, kernels and checkpointing, not on the card.",
        unit="parameters",
    ),
    Rule(
        "activations",
        "activations, nothing recomputed",
        "s·b·h·L·(10 + 24/t + 5·a·s/(h·t))",
        REQUIRED,
        "It is GPT-2's layer with dropout, a 4h MLP, 16-bit everywhere and materialised scores; logits are left out.",
    ),
    Rule(
        "activations-selective",
        "activations, scores recomputed",
        "s·b·h·L·(10 + 24/t)",
        REQUIRED,
        "SDPA and FlashAttention keep no scores either; gated MLPs, RMSNorm in fp32 and the logits come on top.",
    ),
    Rule(
        "activations-full",
        "activations, full recomputation",
        "2·s·b·h·L",
        REQUIRED,
        "The layer that is being recomputed and the logits come on top, and often dominate.",
    ),
    Rule(
        "activations-gpt2",
        "activations of GPT-2",
        "24·b·s·h·L (12 elements of 16 bits)",
        ESTIMATE,
        "One constant for all architectures; scores, which grow with s², are not in it.",
    ),
    Rule(
        "inference",
        "1.2 × weights",
        "1.2 × weights",
        REQUIRED,
        "The fifth stands for cache and temporaries, which really grow with batch and length.",
    ),
    Rule(
        "zero-sharded",
        "ZeRO divides by N",
        "4 × parameters + 16 × parameters / N",
        REQUIRED,
        "What ZeRO divides depends on the stage; buckets and gathered parameters come on top.",
    ),
    Rule(
        "training-compute",
        "6·N·D",
        "6 × parameters × tokens",
        REQUIRED,
        "Attention scores and recomputation are left out.",
        unit="FLOP",
    ),
)

RULES = MappingProxyType({rule.name: rule for rule in _RULES})
"""Every rule by its name."""
