"""Models of llm-foundry: MPT by its sizes, others by their names (0.22: llmfoundry/models)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.surfaces.frameworks.framework import Config
from vramlint.surfaces.frameworks.networks import Sizes, define
from vramlint.values import Scalar, Table

MPT = "mpt_causal_lm"

_SIZES: Mapping[str, int] = MappingProxyType(
    {"d_model": 2048, "n_heads": 16, "n_layers": 24, "max_seq_len": 2048, "vocab_size": 50368}
)
"""Defaults of MPTConfig (configuration_mpt.py)."""

_OBJECTIVES: Mapping[str, str] = MappingProxyType(
    {"text": "pretrain", "finetuning": "sft", "contrastive_pairs": "embedding-pairs"}
)
"""`train_loader.name` (llmfoundry/data/__init__.py) and what is trained."""

_IMPLEMENTATIONS: Mapping[str, str] = MappingProxyType(
    {"flash": "flash_attention_2", "torch": "eager", "triton": "triton", "flex": "flex_attention"}
)
"""`model.attn_config.attn_impl`; `torch` writes the scores out."""


_ATTENTION = "attn_config"
_OVERRIDDEN = "model.config_overrides.attn_config.attn_impl"


def define_model(config: Config) -> None:
    """Say what is trained and with which attention; hand on the sizes of an MPT."""
    _objective(config)
    if config.text("model.name") == MPT or config.given("model.d_model"):
        _mpt(config)
        return
    key = next((key for key in ("model.use_flash_attention_2", "model.attn_implementation") if config.given(key)), "")
    if config.on("model.use_flash_attention_2"):
        config.state("attention_implementation", "flash_attention_2", key)
    elif config.text("model.attn_implementation"):
        config.say("attention_implementation", "model.attn_implementation", "text")
    word = config.text(_OVERRIDDEN)
    if word:
        config.state("attention_implementation", _IMPLEMENTATIONS.get(word, word), _OVERRIDDEN)
    overrides = config.value("model.config_overrides")
    if isinstance(overrides, Table):
        # llmfoundry/models/hf/hf_causal_lm.py: a mapping is laid over the configuration's own
        kept = (entry for entry in overrides if isinstance(entry.value, Scalar) or entry.key == _ATTENTION)
        sizes = tuple(kept)
        config.draft.tables.append(("config-overrides", Table(sizes, overrides.place)))
    if config.on("model.load_in_8bit"):
        config.state("quantization_bits", 8, "model.load_in_8bit")


def _objective(config: Config) -> None:
    name = config.text("train_loader.name")
    if config.text("model.name") == "hf_t5":
        config.state("objective", "seq2seq", "model.name")
    elif name:
        config.state("objective", _OBJECTIVES.get(name, name), "train_loader.name")
    ratio = config.given("train_loader.dataset.packing_ratio")
    if name == "text":
        config.derive("packing", True, "samples are cut from joined documents", "train_loader.name")
    elif name:
        config.state("packing", ratio, "train_loader.dataset.packing_ratio")
        trims = "train_loader.dataset.allow_pad_trimming"
        config.state("pad_to_maximum", not config.on(trims), trims)


def _mpt(config: Config) -> None:
    sizes = {key: config.integer(f"model.{key}") or value for key, value in _SIZES.items()}
    ratio = config.plain("model.expansion_ratio")
    factor = ratio if isinstance(ratio, int | float) else 4
    width = config.integer("model.ffn_config.ffn_hidden_size") or int(factor * sizes["d_model"])
    config.state("intermediate_size", width, "model.ffn_config.ffn_hidden_size", "model.expansion_ratio")
    for fact, key in (("layers", "n_layers"), ("hidden_size", "d_model"), ("attention_heads", "n_heads")):
        config.state(fact, sizes[key], f"model.{key}")
    config.state("vocabulary_size", sizes["vocab_size"], "model.vocab_size")
    tied = config.on("model.tie_word_embeddings") or not config.given("model.tie_word_embeddings")
    config.state("tied_embeddings", tied, "model.tie_word_embeddings")
    word = config.text("model.attn_config.attn_impl") or "flash"
    config.state("attention_implementation", _IMPLEMENTATIONS.get(word, word), "model.attn_config.attn_impl")
    config.say("key_value_heads", "model.attn_config.kv_n_heads", "count")
    dropout = config.plain("model.resid_pdrop")
    if isinstance(dropout, int | float):
        config.state("dropout", float(dropout), "model.resid_pdrop")
    experts = config.integer("model.ffn_config.moe_num_experts")
    if experts:
        config.say("experts", "model.ffn_config.moe_num_experts", "count")
        config.state("experts_per_token", config.integer("model.ffn_config.moe_top_k") or 1, _TOP)
    define(config, _network(config, sizes, width, experts or 0, tied))


_TOP = "model.ffn_config.moe_top_k"


def _network(config: Config, sizes: Mapping[str, int], width: int, experts: int, tied: bool) -> Sizes:
    """MPT; with fewer heads of keys, a gate or experts the nearest that has them."""
    pairs = config.integer("model.attn_config.kv_n_heads")
    gated = "glu" in config.text("model.ffn_config.ffn_type")
    if not (pairs or gated or experts):
        rotary = config.on("model.attn_config.alibi") or config.on("model.attn_config.rope")
        return {
            "model_type": "mpt",
            **sizes,
            "expansion_ratio": width // sizes["d_model"],
            "no_bias": config.on("model.no_bias"),
            "learned_pos_emb": not rotary,
            "tie_word_embeddings": tied,
            "attn_config": {
                "alibi": config.on("model.attn_config.alibi"),
                "attn_impl": config.text("model.attn_config.attn_impl") or "flash",
            },
        }
    shared: Sizes = {
        "vocab_size": sizes["vocab_size"],
        "hidden_size": sizes["d_model"],
        "num_hidden_layers": sizes["n_layers"],
        "num_attention_heads": sizes["n_heads"],
        "num_key_value_heads": pairs or sizes["n_heads"],
        "intermediate_size": width,
        "max_position_embeddings": sizes["max_seq_len"],
        "tie_word_embeddings": tied,
    }
    if experts:
        chosen = config.integer(_TOP) or 1
        return {**shared, "model_type": "mixtral", "num_local_experts": experts, "num_experts_per_tok": chosen}
    return {**shared, "model_type": "llama"}
