"""Inputs of XTuner's memory calculator, which describe a run of its FSDP engine (xtuner 1.0 tools/llm_calc)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.surfaces.frameworks.framework import Config
from vramlint.surfaces.frameworks.networks import Sizes, define
from vramlint.values import Plain

_SHORT: Mapping[str, str] = MappingProxyType(
    {
        "hidden_size": "D",
        "num_hidden_layers": "LN",
        "num_attention_heads": "qn",
        "num_key_value_heads": "kvn",
        "head_dim": "H",
        "moe_intermediate_size": "mH",
        "num_experts_per_tok": "topk",
        "num_experts": "e",
        "expert_parallel_size": "ep",
    }
)
"""Long names and the short ones that they stand for (llm_calculator.py, Config)."""

_ROWS = (
    ("model", "model", "text"),
    ("L", "sequence_length", "count"),
    ("MBS", "micro_batch_size", "count"),
    ("MBN", "gradient_accumulation_steps", "count"),
    ("nodes", "nodes", "count"),
    ("gpu_per_node", "gpus_per_node", "count"),
    ("pp", "pipeline_parallel", "count"),
    ("tp", "tensor_parallel", "count"),
    ("cp", "context_parallel", "count"),
    ("ep", "expert_parallel", "count"),
    ("etp", "expert_tensor_parallel", "count"),
    ("TP_sp", "sequence_parallel", "flag"),
    ("recompute", "activation_checkpointing", "flag"),
    ("zero_stage", "zero_stage", "count"),
    ("vocab_size", "vocabulary_size", "count"),
    ("intermediate_size", "intermediate_size", "count"),
    ("attn_type", "attention_kind", "text"),
)
_SIZES = (
    ("num_hidden_layers", "layers"),
    ("hidden_size", "hidden_size"),
    ("num_attention_heads", "attention_heads"),
    ("num_key_value_heads", "key_value_heads"),
)
_EXPERTS = (
    ("num_experts", "experts"),
    ("num_experts_per_tok", "experts_per_token"),
    ("moe_intermediate_size", "expert_intermediate_size"),
)
_DTYPES: Mapping[Plain, str] = MappingProxyType({2: "bfloat16", 4: "float32"})
"""Bytes of an element; the engine computes in bfloat16 (v1/config/fsdp.py, param_dtype)."""
_SHARDING: Mapping[Plain, str] = MappingProxyType({1: "no_shard", 2: "shard_grad_op", 3: "full_shard"})


def calculator(config: Config) -> None:
    """The facts of the run that is calculated."""
    for key, fact, converter in _ROWS:
        config.say(fact, key, converter)
        if config.default(key) is not None:
            config.state(fact, config.default(key))
    for key, fact in _SIZES:
        _size(config, key, fact)
    if config.given("intermediate_size"):
        config.derive("experts", 0, "a dense model: it has an intermediate_size", "intermediate_size")
    else:
        for key, fact in _EXPERTS:
            _size(config, key, fact)
    nodes, each = config.integer("nodes"), config.integer("gpu_per_node")
    if nodes and each:
        config.derive("world_size", nodes * each, "nodes · gpu_per_node", "nodes")
    config.state("fsdp", _SHARDING.get(config.plain("zero_stage"), "full_shard"), "zero_stage")
    config.derive("objective", "pretrain", "the calculator knows no other loss")
    config.derive("tuning", "full", "the calculator knows no adapters")
    config.derive("loop", "plain", "the engine runs its own loop")
    config.derive("optimizer", "adamw", "two states of os_type bytes for a parameter", "os_type")
    config.state("load_dtype", _DTYPES.get(config.plain("master_type"), "float32"), "master_type")
    config.state("bf16", config.plain("param_type") == 2, "param_type")
    flash = "flash_attention_2" if config.on("flash_attn") else "eager"
    config.state("attention_implementation", flash, "flash_attn")
    config.derive("packing", True, "rows are filled to L tokens", "L")
    if config.integer("chunk_loss_size"):
        config.state("fused_loss", True, "chunk_loss_size")
        config.state("loss_type", "chunked_nll", "chunk_loss_size")
        config.derive("liger", False, "the loss is the engine's own", "chunk_loss_size")
    define(config, _network(config))


def _size(config: Config, key: str, fact: str) -> None:
    if not config.say(fact, key, "count") and not config.say(fact, _SHORT[key], "count"):
        value = config.default(_SHORT[key])
        if value is not None:
            config.state(fact, value)


def _number(config: Config, key: str) -> int | None:
    given = key if config.given(key) or key not in _SHORT else _SHORT[key]
    return config.integer(given)


def _network(config: Config) -> Sizes:
    """config.json of the architecture with these parts: DeepSeek-V3, or Qwen3 with and without experts."""
    latent, dense = config.text("attn_type") == "mla", config.given("intermediate_size")
    shared: dict[str, Plain] = {
        key: _number(config, key)
        for key in (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "vocab_size",
            "intermediate_size",
        )
    }
    shared["tie_word_embeddings"] = False
    if not latent:
        shared["head_dim"] = _number(config, "head_dim")
        if dense:
            return {**shared, "model_type": "qwen3"}
        experts = {key: _number(config, key) for key, _ in _EXPERTS}
        shared["intermediate_size"] = experts[
            "moe_intermediate_size"
        ]  # of layers without experts, which there are none of
        return {**shared, **experts, "model_type": "qwen3_moe", "decoder_sparse_step": 1}
    ranks = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "n_shared_experts")
    return {
        **shared,
        **{key: _number(config, key) for key in ranks},
        "n_routed_experts": _number(config, "num_experts"),
        "num_experts_per_tok": _number(config, "num_experts_per_tok"),
        "moe_intermediate_size": _number(config, "moe_intermediate_size"),
        "intermediate_size": _number(config, "moe_intermediate_size"),
        "first_k_dense_replace": 0,
        "model_type": "deepseek_v3",
    }
