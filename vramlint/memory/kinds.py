"""What activations are of: the kind of the operator that made them, as people speak of a layer's parts."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

OTHER = "other"

_OPERATORS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "attention": (
            "flash attention",
            "efficient attention",
            "logsumexp",
            "rng state",
            "softmax",
            "matmul",
            "baddbmm",
            "attention bias",
            "attention mask",
            "shift mask",
            "expanded mask",
            "bitwise_not",
            "causal mask",
            "repeat_kv",
            "expand",
            "rotary cos",
            "rotary sin",
            "alibi",
            "cat",
        ),
        "linear layers": ("linear", "linear4bit", "grouped_mm", "convolution", "weight_norm"),
        "activation functions": (
            "silu",
            "gelu",
            "gelu_new",
            "gelu_pytorch_tanh",
            "gelu_fast",
            "quick_gelu",
            "tanh",
            "relu",
            "relu2",
            "sigmoid",
            "mul",
            "neg",
            "pow",
            "div",
        ),
        "norms": (
            "layer_norm",
            "layer_norm mean",
            "layer_norm rstd",
            "group_norm",
            "group_norm mean",
            "group_norm rstd",
            "batch_norm",
            "batch_norm mean",
            "batch_norm rstd",
            "norm",
            "rsqrt",
            "mean",
        ),
        "dropout": ("dropout", "dropout mask"),
        "residual stream": ("add", "embedding", "from host"),
        "casts to another dtype": ("to",),
        "copies": ("clone", "contiguous", "pad", "roll", "stack"),
        "positions": ("position ids", "offset positions", "token type ids", "decoder input ids", "buckets"),
        "loss": (
            "nll_loss",
            "nll_loss total_weight",
            "gather",
            "sum",
            "clamped labels",
            "shifted labels",
            "padding mask",
            "ctc_loss",
            "ctc alpha",
            "log_sigmoid",
            "eye",
        ),
        "routing": ("topk", "topk indices", "sort", "index", "inverse permutation", "floor_divide", "where"),
    }
)

KINDS: Mapping[str, str] = MappingProxyType({operator: kind for kind, ops in _OPERATORS.items() for operator in ops})
"""Operator as recorded to the kind of its result; everything else is `OTHER`."""
