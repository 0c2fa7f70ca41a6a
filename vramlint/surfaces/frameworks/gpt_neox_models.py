"""The model that gpt-neox's configuration defines (EleutherAI/gpt-neox@ea7aefd: megatron/model)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.job import ConfigValue
from vramlint.surfaces.frameworks.framework import Config
from vramlint.surfaces.frameworks.networks import Sizes, define, padded
from vramlint.surfaces.frameworks.recurrent import mamba1_layer, rwkv6_layer
from vramlint.values import Items, Scalar, Value

_GATED = frozenset({"geglu", "swiglu", "reglu", "bilinear", "glu"})
"""Activations for which the stored width is three times the real one (model/transformer.py, ParallelMLP)."""

RECURRENT = frozenset({"mamba", "rwkv"})
"""Entries of `attention_config` for layers without attention."""

_VOCABULARIES: Mapping[str, int] = MappingProxyType(
    {"GPT2BPETokenizer": 50257, "HFGPT2Tokenizer": 50257, "CharLevelTokenizer": 512, "TiktokenTokenizer": 100277}
)
"""Tokens of a tokenizer that needs no file to be told (tokenizer/tokenizer.py)."""
_VOCABULARY_FILES: Mapping[str, int] = MappingProxyType(
    {"20B_tokenizer": 50277, "gpt2-vocab": 50257, "llama3": 128256, "llama-3": 128256, "llama": 32000}
)
"""Tokens by a part of the vocabulary file's name: the Pile's tokenizer, GPT-2's, those of Llama's releases."""


def attention_kinds(value: Value | None) -> set[str]:
    """The words of an `attention_config`, `[[["flash"], 24]]`, at any depth."""
    match value:
        case Scalar(value=str(word)):
            return {word}
        case Items(values=values):
            return set().union(*map(attention_kinds, values))
    return set()


def _width(config: Config) -> int | None:
    """The true width of one of the MLP's projections (model/transformer.py, ParallelMLP)."""
    hidden, stored = config.integer("hidden_size"), config.integer("intermediate_size")
    factor = config.plain("expansion_factor")
    if hidden is None and stored is None:
        return None
    if not stored:
        stored = int(factor * (hidden or 0)) if isinstance(factor, int | float) else 4 * (hidden or 0)
    if config.text("activation") in _GATED:
        stored = int(stored * 2 / 3) // 2
    return padded(stored, config.integer("mlp_multiple_of") or 1)


def _vocabulary(config: Config) -> int:
    """Tokens of the tokenizer; said as a fact where the files name it, assumed where they do not."""
    kind, path = config.text("tokenizer_type"), config.text("vocab_file").lower()
    own = next((size for part, size in _VOCABULARY_FILES.items() if part.lower() in path), None)
    if own is not None and config.given("vocab_file"):
        config.assume("vocabulary_size", own, f"the tokenizer is {config.text('vocab_file')}")
        return own
    size = _VOCABULARIES.get(kind, _VOCABULARIES["GPT2BPETokenizer"])
    config.assume("vocabulary_size", size, f"that of {kind if kind in _VOCABULARIES else 'GPT-2'}'s tokenizer")
    return size


def _recurrent(config: Config, kinds: set[str]) -> None:
    """A model of Mamba or RWKV, of which the parameters are counted."""
    layers, hidden = config.integer("num_layers"), config.integer("hidden_size")
    if layers is None or hidden is None:
        return
    stored, factor = config.integer("intermediate_size"), config.plain("expansion_factor")
    scale = factor if isinstance(factor, int | float) else 2 if "mamba" in kinds else 3.5
    wide = stored or int(scale * hidden)
    if "mamba" in kinds:
        layer = mamba1_layer(hidden, wide, convolution_bias=config.on("mamba_use_bias_in_conv"))
    else:
        wide = wide // 32 * 32
        config.derive(
            "intermediate_size", wide, "the channel mix is 3.5 times as wide as the model", "expansion_factor"
        )
        layer = rwkv6_layer(hidden, config.integer("dim_att") or hidden, wide)
    heads = 2 if config.on("no_weight_tying") else 1
    multiple = config.integer("make_vocab_size_divisible_by") or 1
    total = layers * layer + heads * hidden * padded(_vocabulary(config), multiple) + hidden
    config.derive("parameters", total, "counted from the layers' sizes", "hidden_size")


def define_model(config: Config) -> None:
    """Say the sizes of the model, and hand on the nearest one that can be simulated."""
    kinds = attention_kinds(config.value("attention_config"))
    width = _width(config) if config.given("intermediate_size") or not kinds & RECURRENT else None
    if width is not None:
        key = next((key for key in ("intermediate_size", "expansion_factor") if config.given(key)), "")
        if key:
            config.state("intermediate_size", width, key)
        else:
            config.state("intermediate_size", width)
    config.state("tied_embeddings", not config.on("no_weight_tying"), "no_weight_tying")
    dropout = config.plain("hidden_dropout")
    if isinstance(dropout, int | float) and config.given("hidden_dropout"):
        config.state("dropout", float(dropout), "hidden_dropout")
    sizes = [config.integer(key) for key in ("num_layers", "hidden_size", "num_attention_heads")]
    if kinds & RECURRENT:
        _recurrent(config, kinds)
        return
    if None in sizes or width is None or kinds & {"gmlp", "amlp"}:
        return
    multiple = (config.integer("make_vocab_size_divisible_by") or 1) * (config.integer("model_parallel_size") or 1)
    vocabulary = padded(_vocabulary(config), multiple)
    followed: Sizes = {} if _unfollowed(config) else {"neox": of_rank(config, kinds, width, vocabulary)}
    define(config, {**_sizes(config, width, vocabulary), **followed})


_GATES: Mapping[str, str] = MappingProxyType(
    {"swiglu": "swish", "geglu": "gelu", "reglu": "relu", "glu": "sigmoid", "bilinear": "bilinear"}
)
"""What a gated activation does to its gate (model/activations.py)."""
_TRANSFORMER_ENGINE = ("te_columnparallel", "te_rowparallel", "te_layernorm_mlp", "te_mha", "te_fp8_mha")
"""Switches for layers of Transformer Engine."""
_ACTIVATIONS = frozenset({"gelu", "relu", "silu", "swish", "softsign", "mish"})
_FULL_ATTENTION = frozenset({"global", "flash"})


def _unfollowed(config: Config) -> bool:
    """Whether the layers are other ones than memory/architectures/neox.py has."""
    kinds = attention_kinds(config.value("attention_config")) or {"global"}
    return (
        len(kinds) != 1
        or not kinds <= _FULL_ATTENTION
        or (config.integer("moe_num_experts") or 1) > 1
        or config.text("norm") not in {"", "layernorm", "rmsnorm"}
        or config.text("activation") not in {"", *_GATES, *_ACTIVATIONS}
        or config.text("pos_emb") not in {"", "none", "learned", "rotary"}
        or any(map(config.on, (*_TRANSFORMER_ENGINE, "use_qk_layernorm", "use_mup", "use_bnb_optimizer")))
        or config.on("soft_prompt_tuning.enabled")
    )


def of_rank(config: Config, kinds: set[str], width: int, vocabulary: int) -> ConfigValue:
    """The whole model in the words of memory/architectures/neox.py."""
    heads, hidden = config.integer("num_attention_heads") or 1, config.integer("hidden_size") or 0
    size, share = hidden // heads, config.plain("rotary_pct")
    rotated = int(size * share) if isinstance(share, int | float) else size
    gated = config.text("activation") in _GATED
    root = config.text("norm") == "rmsnorm"
    fused = config.on("scaled_upper_triang_masked_softmax_fusion") or config.on("scaled_masked_softmax_fusion")
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": config.integer("num_layers") or 0,
        "num_attention_heads": heads,
        "num_key_value_heads": config.integer("num_kv_heads") or heads,
        "head_dim": size,
        "intermediate_size": width,
        "max_position_embeddings": config.integer("max_position_embeddings") or config.integer("seq_length") or 0,
        "tie_word_embeddings": not config.on("no_weight_tying"),
        "pos_emb": config.text("pos_emb") or "learned",
        "rotary_dim": rotated if config.text("pos_emb") == "rotary" else 0,
        "gate": _GATES.get(config.text("activation"), "") if gated else "",
        "activation": config.text("activation") or "gelu",
        "norm": "rmsnorm" if root else "layernorm",
        "norm_fusion": config.on("rmsnorm_fusion" if root else "layernorm_fusion"),
        "attention_bias": config.on("use_bias_in_attn_linear"),
        "mlp_bias": config.on("use_bias_in_mlp"),
        "gpt_j_residual": config.on("gpt_j_residual"),
        "gpt_j_tied": config.on("gpt_j_tied"),
        "bias_gelu_fusion": config.on("bias_gelu_fusion"),
        "bias_dropout_fusion": config.on("bias_dropout_fusion"),
        "softmax_fusion": fused,
        "attention_softmax_in_fp32": config.on("attention_softmax_in_fp32"),
        "fp16_lm_cross_entropy": config.on("fp16_lm_cross_entropy"),
        "hidden_dropout": _probability(config, "hidden_dropout"),
        "attention_dropout": _probability(config, "attention_dropout") if "flash" not in kinds else 0.0,
    }


def _probability(config: Config, key: str) -> float:
    value = config.plain(key)
    return float(value) if isinstance(value, int | float) else 0.0


def _sizes(config: Config, width: int, vocabulary: int) -> Sizes:
    """The nearest of transformers: Mixtral with experts, Llama with a gate, GPT-2 with learned positions, GPT-NeoX."""
    heads = config.integer("num_attention_heads")
    gated, experts = config.text("activation") in _GATED, config.integer("moe_num_experts") or 1
    shared: Sizes = {
        "vocab_size": vocabulary,
        "hidden_size": config.integer("hidden_size"),
        "num_hidden_layers": config.integer("num_layers"),
        "num_attention_heads": heads,
        "intermediate_size": width,
        "max_position_embeddings": config.integer("max_position_embeddings") or config.integer("seq_length"),
        "tie_word_embeddings": not config.on("no_weight_tying"),
    }
    if experts > 1:
        config.say("experts", "moe_num_experts", "count")
        config.state("experts_per_token", config.integer("moe_top_k") or 1, "moe_top_k")
        return {
            **shared,
            "model_type": "mixtral",
            "num_key_value_heads": config.integer("num_kv_heads") or heads,
            "num_local_experts": experts,
            "num_experts_per_tok": config.integer("moe_top_k"),
        }
    if gated or config.given("num_kv_heads"):
        bias = config.on("use_bias_in_mlp") and not gated
        return {
            **shared,
            "model_type": "llama",
            "num_key_value_heads": config.integer("num_kv_heads") or heads,
            "attention_bias": config.on("use_bias_in_attn_linear"),
            "mlp_bias": bias,
        }
    if config.text("pos_emb") == "learned":
        return {
            "model_type": "gpt2",
            "vocab_size": vocabulary,
            "n_embd": shared["hidden_size"],
            "n_layer": shared["num_hidden_layers"],
            "n_head": heads,
            "n_inner": width,
            "n_positions": shared["max_position_embeddings"],
            "tie_word_embeddings": shared["tie_word_embeddings"],
            "attn_pdrop": config.plain("attention_dropout"),
            "resid_pdrop": config.plain("hidden_dropout"),
        }
    return {
        **shared,
        "model_type": "gpt_neox",
        "rotary_pct": config.plain("rotary_pct"),
        "use_parallel_residual": config.on("gpt_j_residual"),
        "hidden_act": "gelu",
        "attention_dropout": config.plain("attention_dropout"),
        "hidden_dropout": config.plain("hidden_dropout"),
    }
