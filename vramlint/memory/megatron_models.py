"""Models of transformers as Megatron-Core builds them, from their config.json.

What Megatron's bridges make of a checkpoint (NVIDIA-NeMo/Megatron-Bridge 0.7 models/{llama,qwen,mistral,mixtral},
modelscope/mcore-bridge of ms-swift 4.5): norms without bias, gated MLPs, rotary positions, no dropout.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from vramlint.job import ConfigValue, Model

MULTIPLE = 128
"""Vocabularies are filled up to a multiple of this for every tensor-parallel rank (make_vocab_size_divisible_by)."""


class _Form(Struct, frozen=True):
    """How a family differs from Llama."""

    qkv_bias: bool = False
    qk_norm: bool = False
    experts: str = ""
    """The key that counts the experts."""
    expert_width: str = "intermediate_size"


_FORMS: Mapping[str, _Form] = MappingProxyType(
    {
        "llama": _Form(),
        "mistral": _Form(),
        "mixtral": _Form(experts="num_local_experts"),
        "qwen2": _Form(qkv_bias=True),
        "qwen3": _Form(qk_norm=True),
        "qwen3_moe": _Form(qk_norm=True, experts="num_experts", expert_width="moe_intermediate_size"),
    }
)
"""Families by `model_type`."""


def of_transformers(model: Model, ranks: int) -> Mapping[str, ConfigValue] | None:
    """The sizes that memory/architectures/megatron.py builds a model from; None for a family without a form.

    Args:
        model: with its config.json.
        ranks: tensor-parallel ones, for which the vocabulary is padded.

    Raises:
        KeyError: the config lacks a dimension.
    """
    form = _FORMS.get(model.model_type)
    if form is None:
        return None
    config = model.config
    hidden, heads = _count(config, "hidden_size"), _count(config, "num_attention_heads")
    multiple = MULTIPLE * ranks
    groups, size = config.get("num_key_value_heads"), config.get("head_dim")
    found: dict[str, ConfigValue] = {
        "vocab_size": -(-_count(config, "vocab_size") // multiple) * multiple,
        "hidden_size": hidden,
        "num_hidden_layers": _count(config, "num_hidden_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": groups if isinstance(groups, int) else heads,
        "head_dim": size if isinstance(size, int) else hidden // heads,
        "intermediate_size": _count(config, "intermediate_size"),
        "gated": True,
        "bias": False,
        "qkv_bias": form.qkv_bias or config.get("attention_bias") is True,
        "normalization": "RMSNorm",
        "qk_norm": form.qk_norm,
        "rotary": True,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "implementation": "transformer_engine",
        "tie_word_embeddings": config.get("tie_word_embeddings") is True,
        "attention_mask": False,
    }
    if form.experts:
        found |= {
            "experts": _count(config, form.experts),
            "experts_per_token": _count(config, "num_experts_per_tok"),
            "expert_intermediate_size": _count(config, form.expert_width),
            "dispatcher": "alltoall",
            "grouped_experts": True,
            "router_dtype": "fp32",
        }
    return found


def _count(config: Mapping[str, ConfigValue], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int):
        raise KeyError(key)
    return value
