"""torchtitan's models as the nearest of transformers (torchtitan 0.2 models/*/model/{args,model}.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from vramlint.catalog.torchtitan import Sizes, flavors
from vramlint.surfaces.model_config import table_of
from vramlint.values import Plain, Table

SIMULATED = "torchtitan"
"""`model_type` under which the memory model has torchtitan's own dense decoders."""
WITH_EXPERTS = "torchtitan_moe"
"""The same of Llama 4 and Qwen3-MoE."""
WITH_LATENTS = "torchtitan_latent"
"""The same of DeepSeek V3."""
MODEL_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "llama3": "llama",
        "llama3_ft": "llama",
        "llama4": "llama4",
        "qwen3": "qwen3",
        "deepseek_v3": "deepseek_v3",
        "gpt_oss": "gpt_oss",
    }
)
"""Models by their folders, and the architectures by transformers' names."""

_ATTENTION: Mapping[str, str] = MappingProxyType(
    {"sdpa": "sdpa", "flex": "flex_attention", "varlen": "flash_attention_2"}
)
"""`attn_type`, and the implementation that it stands for."""


def sizes_of(name: str, flavor: str) -> Sizes | None:
    """The sizes of a flavor; None if torchtitan has none of that name."""
    return flavors().get((name, flavor)) or flavors().get((name.removesuffix("_ft"), flavor))


def attention_of(sizes: Sizes) -> str:
    """The attention of a flavor, by transformers' names."""
    return _ATTENTION.get(str(sizes.get("attn_type", "sdpa")), "sdpa")


def network(name: str, sizes: Sizes, length: int | None = None) -> Table | None:
    """The config.json of a model of these sizes; None where no architecture of transformers comes near.

    Args:
        name: of the model's folder.
        sizes: of its flavor.
        length: tokens of a row, for which rotary tables are made (update_from_config).
    """
    translate = _NETWORKS.get(name.removesuffix("_ft"))
    if translate is None:
        return None
    return table_of(translate({**sizes, "max_seq_len": length} if length else dict(sizes)))


def _common(sizes: Mapping[str, Any]) -> dict[str, Plain]:
    heads = sizes["n_heads"]
    return {
        "vocab_size": sizes["vocab_size"],
        "hidden_size": sizes["dim"],
        "num_hidden_layers": sizes["n_layers"],
        "num_attention_heads": heads,
        "num_key_value_heads": sizes.get("n_kv_heads") or heads,
        "max_position_embeddings": sizes.get("max_seq_len"),
        "tie_word_embeddings": bool(sizes.get("enable_weight_tying", False)),
    }


def _llama(sizes: Mapping[str, Any]) -> dict[str, Plain]:
    """FeedForward of models/llama3/model/model.py: two thirds of 4 · dim, multiplied, up to a multiple."""
    inner = int(2 * (4 * sizes["dim"]) / 3)
    inner = int(sizes["ffn_dim_multiplier"] * inner) if sizes.get("ffn_dim_multiplier") else inner
    multiple = sizes["multiple_of"]
    return {
        **_common(sizes),
        "model_type": SIMULATED,
        "component": "llama3",
        "intermediate_size": -(-inner // multiple) * multiple,
    }


def _experts(experts: Mapping[str, Any], width: int) -> dict[str, Plain]:
    """MoEArgs of models/moe/moe.py, for experts of this width."""
    return {
        "model_type": WITH_EXPERTS,
        "num_experts": experts["num_experts"],
        "num_experts_per_tok": experts["top_k"],
        "moe_intermediate_size": width,
        "shared_expert_intermediate_size": width * experts["num_shared_experts"],
        "scoring_func": experts["score_func"],
        "norm_topk_prob": bool(experts["route_norm"]),
        "scores_first": bool(experts["score_before_experts"]),
        "balances_experts": experts.get("load_balance_coeff") is not None,
    }


def _llama4(sizes: Mapping[str, Any]) -> dict[str, Plain]:
    """TransformerBlock of models/llama4/model/model.py: experts as wide as their number leaves of a feed-forward."""
    experts, multiple = sizes["moe_args"], sizes["multiple_of"]
    inner = int(2 * (4 * sizes["dim"]) / 3)
    inner = int(sizes["ffn_dim_multiplier"] * inner) if sizes.get("ffn_dim_multiplier") else inner
    if sizes["auto_scale_hidden_dim"]:
        inner = int(inner / (experts["top_k"] + experts["num_shared_experts"]))
    return {
        **_llama(sizes),
        **_experts(experts, inner + -inner % multiple),
        "interleave_moe_layer_step": sizes["interleave_moe_layer_step"],
        "keeps_exchanges": True,
    }


def _qwen3(sizes: Mapping[str, Any]) -> dict[str, Plain]:
    config = {
        **_common(sizes),
        "model_type": SIMULATED,
        "component": "qwen3",
        "qk_norm": bool(sizes.get("qk_norm")),
        "head_dim": sizes["head_dim"],
        "intermediate_size": sizes["hidden_dim"],
    }
    return {**config, **_experts(sizes["moe_args"], sizes["moe_inter_dim"])} if sizes.get("moe_enabled") else config


def _deepseek(sizes: Mapping[str, Any]) -> dict[str, Plain]:
    return {
        **_common(sizes),
        **_experts(sizes["moe_args"], sizes["moe_inter_dim"]),
        "model_type": WITH_LATENTS,
        "component": "llama3",
        "intermediate_size": sizes["inter_dim"],
        "first_k_dense_replace": sizes["n_dense_layers"],
        "n_group": sizes["moe_args"].get("num_expert_groups") or 0,
        "q_lora_rank": sizes["q_lora_rank"] or 0,
        "kv_lora_rank": sizes["kv_lora_rank"],
        "qk_nope_head_dim": sizes["qk_nope_head_dim"],
        "qk_rope_head_dim": sizes["qk_rope_head_dim"],
        "head_dim": sizes["qk_rope_head_dim"],
        "v_head_dim": sizes["v_head_dim"],
        "keeps_exchanges": True,
    }


def _gpt_oss(sizes: Mapping[str, Any]) -> dict[str, Plain]:
    experts = sizes["moe_args"]
    return {
        **_common(sizes),
        "model_type": "gpt_oss",
        "head_dim": sizes["head_dim"],
        "intermediate_size": sizes["moe_inter_dim"],
        "num_local_experts": experts["num_experts"],
        "num_experts_per_tok": experts["top_k"],
        "sliding_window": sizes["sliding_window_size"],
    }


_NETWORKS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Plain]]] = MappingProxyType(
    {"llama3": _llama, "llama4": _llama4, "qwen3": _qwen3, "deepseek_v3": _deepseek, "gpt_oss": _gpt_oss}
)
"""Models by the names of their folders."""
