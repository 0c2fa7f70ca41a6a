"""The arithmetic of the well-known rules of thumb, over plain numbers.

Letters of the articles: P parameters, b micro batch size, s sequence length, d or h hidden size, a attention
heads, L layers, t tensor-parallel size. Results are bytes unless a name says otherwise.
"""

from __future__ import annotations

from types import MappingProxyType

BYTES_PER_PARAMETER = MappingProxyType({"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.0, "int4": 0.5})
OPTIMIZER_BYTES_PER_PARAMETER = MappingProxyType({"adamw": 12, "adamw-8bit": 6, "sgd-momentum": 8})
"""fp32 copy of the weights included."""
CUDA_KERNELS_BYTES = 1_300_000_000
MIXED_PRECISION_ADAM_BYTES = 16
"""fp16 weights 2, fp16 gradients 2, fp32 weights 4, momentum 4, variance 4."""


def weights(parameters: int, precision: str) -> int:
    """Parameters times their bytes; `precision` is a key of BYTES_PER_PARAMETER."""
    return int(parameters * BYTES_PER_PARAMETER[precision])


def gradients(parameters: int, precision: str) -> int:
    """As many bytes as weights of that precision."""
    return weights(parameters, precision)


def adam_states(parameters: int, precision: str) -> int:
    """Momentum and variance in the precision of the parameters."""
    return 2 * weights(parameters, precision)


def optimizer_copies(parameters: int, optimizer: str) -> int:
    """fp32 copy, momentum and variance, as far as the optimizer has them."""
    return parameters * OPTIMIZER_BYTES_PER_PARAMETER[optimizer]


def states_16(parameters: int) -> int:
    """Model states of Adam in fp16 mixed precision."""
    return MIXED_PRECISION_ADAM_BYTES * parameters


def states_18(parameters: int) -> int:
    """The same with fp32 gradients: weights 4 + 2, gradients 4, Adam 8."""
    return 18 * parameters


def states_20(parameters: int) -> int:
    """The same with both precisions of the gradients: weights 2 + 4, gradients 2 + 4, Adam 8."""
    return 20 * parameters


def states_24(parameters: int) -> int:
    """Plain fp32 with a second copy of weights and gradients: 4 + 4, 4 + 4, 8."""
    return 24 * parameters


def states_with_updates(parameters: int) -> int:
    """Everything twice in 16 bits: weights, updated weights, gradients, updated gradients 2 each; fp32 Adam 4 + 4."""
    return (2 + 2 + 2 + 2 + 4 + 4) * parameters


def simple_training(parameters: int, precision: str) -> int:
    """Weights, gradients and Adam states in one precision, and the CUDA kernels."""
    parts = weights(parameters, precision) + gradients(parameters, precision) + adam_states(parameters, precision)
    return parts + CUDA_KERNELS_BYTES


def largest_model(card_bytes: int) -> int:
    """Parameters whose mixed-precision Adam states alone fill the card."""
    return card_bytes // MIXED_PRECISION_ADAM_BYTES


def largest_model_half_card(card_bytes: int) -> int:
    """The same with half of the card kept for activations."""
    return largest_model(card_bytes) // 2


def market_band(parameters: int) -> str:
    """Which cards train a model of that size bare: nearly any, most at their limit, none."""
    if parameters < 10**9:
        return "nearly any card"
    return "most cards at their limit" if parameters <= 5 * 10**9 else "no card"


def attention_activations(b: int, s: int, d: int, h: int) -> int:
    """What one self-attention block keeps for backward: 16 bits, dropout, scores materialised. `h` heads."""
    return 11 * b * s * d + 5 * b * h * s**2


def mlp_activations(b: int, s: int, d: int) -> int:
    """What one MLP block of inner width 4d keeps for backward: 2 + 8 + 8 + 1 bytes per element."""
    return 19 * b * s * d


def activations(b: int, s: int, h: int, a: int, layers: int, *, t: int = 1) -> float:
    """Activations of all layers without recomputation."""
    return s * b * h * layers * (10 + 24 / t + 5 * a * s / (h * t))


def activations_selective(b: int, s: int, h: int, layers: int, *, t: int = 1) -> float:
    """The same when the attention scores are recomputed."""
    return s * b * h * layers * (10 + 24 / t)


def activations_full(b: int, s: int, h: int, layers: int) -> int:
    """Only the input of every layer: full recomputation."""
    return 2 * s * b * h * layers


def activations_gpt2(b: int, s: int, h: int, layers: int) -> int:
    """12 elements of 16 bits per token, width and layer."""
    return 2 * 12 * b * s * h * layers


def inference(weight_bytes: int) -> int:
    """Weights and a fifth."""
    return weight_bytes * 12 // 10


def inference_in_threads(model_bytes: int, peak_bytes: int, threads: int) -> int:
    """Threads share the weights; each has its own temporaries."""
    return model_bytes + (peak_bytes - model_bytes) * threads


def zero_sharded(parameters: int, gpus: int) -> int:
    """16-bit weights and gradients whole; fp32 weights, fp32 gradients, momentum and variance divided by the GPUs."""
    return (2 + 2) * parameters + (4 + 4 + 4 + 4) * parameters // gpus


def training_compute(parameters: int, tokens: int) -> int:
    """Floating-point operations of a training run."""
    return 6 * parameters * tokens


def forward_compute(parameters: int, tokens: int) -> tuple[int, int]:
    """Floating-point operations of the forward pass: without recomputation and with a second forward."""
    return 2 * parameters * tokens, 4 * parameters * tokens


def gpu_hours(compute: float, card_flops: float, utilisation: float) -> float:
    """Hours of one card for `compute` operations."""
    return compute / card_flops / utilisation / 3600


def card_flops(cores: int, clock_hz: int, operations: int = 2) -> int:
    """Operations per second: cores times clock times operations per clock and core."""
    return cores * clock_hz * operations
