"""The model that Megatron's flags define (NVIDIA/Megatron-LM@d98e8a6: arguments.py, megatron/core)."""

from __future__ import annotations

from vramlint.job import ConfigValue
from vramlint.surfaces.frameworks.framework import Config
from vramlint.surfaces.frameworks.megatron_engine import of_rank, unfollowed
from vramlint.surfaces.frameworks.megatron_kinds import is_bert, is_t5
from vramlint.surfaces.frameworks.megatron_layers import Pattern, frequencies, hybrid_pattern, vocabulary
from vramlint.surfaces.frameworks.networks import Sizes, define, padded
from vramlint.surfaces.frameworks.recurrent import mamba2_layer
from vramlint.values import Plain, Scalar, Unknown


def _pattern(config: Config) -> Pattern | None:
    key = next((key for key in ("hybrid_layer_pattern", "hybrid_override_pattern") if config.given(key)), "")
    return hybrid_pattern(config.text(key)) if key and config.text(key) else None


def define_model(config: Config) -> None:
    """Say the sizes of the model, and hand on the nearest one that can be simulated."""
    pattern = _pattern(config)
    _layers(config, pattern)
    width = _width(config)
    grouped = config.on("group_query_attention")
    if grouped:
        config.say("key_value_heads", "num_query_groups", "count")
    elif (heads := config.integer("num_attention_heads")) is not None:
        config.derive("key_value_heads", heads, "group_query_attention is off")
    config.state("tied_embeddings", not config.on("untie_embeddings_and_output_weights"), _UNTIED)
    _activation(config)
    _latent(config)
    _experts(config, pattern)
    usual = "BertWordPieceLowerCase" if is_bert(config) or is_t5(config) else "GPT2BPETokenizer"
    tokens, written = vocabulary(config, usual)
    if written:
        config.say("vocabulary_size", "vocab_size", "count")
    elif not config.is_unknown("vocab_size"):
        config.assume("vocabulary_size", tokens, f"that of {_told(config) or usual}, if usual")
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    multiple = (config.integer("make_vocab_size_divisible_by") or 1) * (
        config.integer("tensor_model_parallel_size") or 1
    )
    size = config.integer("padded_vocab_size") if config.given("padded_vocab_size") else None
    size = size or padded(tokens, multiple)
    layers = config.fact("layers")
    if hidden is None or layers is None or not isinstance(layers.value, int):
        return
    if pattern is not None and pattern.mamba:
        _count_hybrid(config, pattern, hidden, size)
    elif heads is not None and width is not None:
        define(config, _sizes(config, layers.value, width, size))


def _told(config: Config) -> str:
    """The tokenizer's kind, where no variable stands for it."""
    kind = config.text("tokenizer_type")
    return "" if "$" in kind else kind


_UNTIED = "untie_embeddings_and_output_weights"


def _layers(config: Config, pattern: Pattern | None) -> None:
    for key in ("num_layers", "encoder_num_layers"):
        config.say("layers", key, "count")
    if pattern is not None:
        config.state("layers", pattern.layers, "hybrid_layer_pattern", "hybrid_override_pattern")
    if pattern is not None and pattern.predictions:
        config.state("mtp_layers", pattern.predictions, "hybrid_layer_pattern")
    config.say("mtp_layers", "mtp_num_layers", "count")
    config.also("mtp_layers", "mtp_num_layers", "hybrid_layer_pattern")
    config.also("layers", "num_layers")


def _width(config: Config) -> int | None:
    """`ffn_hidden_size`, or what validate_args makes of its absence."""
    config.say("intermediate_size", "ffn_hidden_size", "count")
    if config.given("ffn_hidden_size"):
        return config.integer("ffn_hidden_size")
    hidden = config.integer("hidden_size")
    if hidden is None:
        return None
    width = int((4 * hidden * 2 / 3) / 64) * 64 if config.on("swiglu") else 4 * hidden
    config.state("intermediate_size", width, "ffn_hidden_size")
    return width


def _activation(config: Config) -> None:
    switches = {"swiglu": "swiglu", "quick_geglu": "quick_geglu", "squared_relu": "squared_relu"}
    key = next((key for key in switches if config.on(key)), "")
    config.state("activation", switches.get(key, "gelu"), key or "swiglu")


def _latent(config: Config) -> None:
    if not config.on("multi_latent_attention"):
        return
    query, key = config.integer("q_lora_rank"), config.integer("kv_lora_rank")
    ranks = f"q rank {query}, kv rank {key}" if query else f"kv rank {key}"
    config.state("attention_kind", f"multi-latent ({ranks})", "multi_latent_attention")


def _experts(config: Config, pattern: Pattern | None) -> None:
    config.say("experts", "num_experts", "count")
    if not config.given("num_experts"):
        return
    config.say("experts_per_token", "moe_router_topk", "count")
    config.state("experts_per_token", config.integer("moe_router_topk") or 2, "moe_router_topk")
    config.say("expert_intermediate_size", "moe_ffn_hidden_size", "count")
    width = config.fact("intermediate_size")
    if width is not None and width.known:
        config.state("expert_intermediate_size", width.value, "moe_ffn_hidden_size")
    config.say("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "count")
    if pattern is not None:
        config.state("moe_layers", pattern.experts, "hybrid_layer_pattern", "hybrid_override_pattern")
        return
    sparse = sum(_frequencies(config))
    if sparse:
        config.state("moe_layers", sparse, "moe_layer_freq")


def _frequencies(config: Config) -> tuple[int, ...]:
    layers = config.fact("layers")
    count = layers.value if layers is not None and isinstance(layers.value, int) else None
    if isinstance(config.value("moe_layer_freq"), Unknown):
        return ()
    written = config.value("moe_layer_freq")
    text = str(written.value) if isinstance(written, Scalar) else "1"
    return frequencies(text, count)


def _count_hybrid(config: Config, pattern: Pattern, hidden: int, vocabulary_size: int) -> None:
    """The parameters of a model of Mamba's layers, which no model here stands for."""
    head, groups, state = (config.integer(f"mamba_{name}") for name in ("head_dim", "num_groups", "state_dim"))
    head, groups, state = head or 64, groups or 8, state or 128
    heads = config.integer("mamba_num_heads") or 2 * hidden // head
    queries = config.integer("num_attention_heads") or 1
    pairs = (config.integer("num_query_groups") if config.on("group_query_attention") else None) or queries
    channels = config.integer("kv_channels") or hidden // queries
    width, matrices = config.integer("ffn_hidden_size") or 4 * hidden, 3 if config.on("swiglu") else 2
    attention = hidden * channels * (2 * queries + 2 * pairs) + hidden
    wide = config.integer("moe_ffn_hidden_size") or width
    beside = config.integer("moe_shared_expert_intermediate_size") or 0
    inner = config.integer("moe_latent_size") or hidden
    number = config.integer("num_experts") or 0
    routed = number * (matrices * inner * wide + hidden) + matrices * hidden * beside + hidden
    routed += 2 * hidden * inner if inner != hidden else 0
    total = (
        pattern.mamba * mamba2_layer(hidden, heads, head, groups, state)
        + pattern.attention * attention
        + pattern.mlp * (matrices * hidden * width + hidden)
        + pattern.experts * routed
        + (2 if config.on(_UNTIED) else 1) * vocabulary_size * hidden
        + hidden
    )
    config.derive("parameters", total, "counted from the layers' sizes", "hidden_size")


def _sizes(config: Config, layers: int, width: int, vocabulary_size: int) -> Sizes:
    """The nearest of transformers: by what it encodes, by its experts, by its attention, by its activation."""
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    positions = config.integer("max_position_embeddings")
    dropout, attention_dropout = config.plain("hidden_dropout"), config.plain("attention_dropout")
    if is_t5(config):
        return {
            **_followed(config, width, vocabulary_size),
            "model_type": "t5",
            "vocab_size": vocabulary_size,
            "d_model": hidden,
            "d_kv": config.integer("kv_channels"),
            "d_ff": width,
            "num_layers": layers,
            "num_decoder_layers": config.integer("decoder_num_layers") or layers,
            "num_heads": heads,
            "dropout_rate": dropout,
            "tie_word_embeddings": not config.on(_UNTIED),
        }
    pairs = config.integer("num_query_groups") if config.on("group_query_attention") else heads
    shared: dict[str, ConfigValue] = {
        "vocab_size": vocabulary_size,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": pairs,
        "head_dim": config.integer("kv_channels"),
        "intermediate_size": width,
        "max_position_embeddings": positions,
        "tie_word_embeddings": not config.on(_UNTIED),
        "attention_dropout": attention_dropout,
    }
    if is_bert(config):
        return {
            **shared,
            **_followed(config, width, vocabulary_size),
            "model_type": "bert",
            "attention_probs_dropout_prob": attention_dropout,
            "hidden_dropout_prob": dropout,
        }
    if config.on("multi_latent_attention"):
        return {**shared, **_followed(config, width, vocabulary_size), **_deepseek(config, layers)}
    if config.given("num_experts"):
        return {**shared, **_followed(config, width, vocabulary_size), **_mixture(config)}
    if config.on("swiglu") or config.on("quick_geglu"):
        bias = not config.on("disable_bias_linear")
        shared |= _followed(config, width, vocabulary_size)
        return {**shared, "model_type": "llama", "attention_bias": bias, "mlp_bias": bias}
    shared |= _followed(config, width, vocabulary_size)
    if config.on("squared_relu"):
        return {**shared, "model_type": "nemotron", "hidden_act": "relu2"}
    if config.text("position_embedding_type") == "learned_absolute" and pairs == heads:
        return {
            "model_type": "gpt2",
            **_followed(config, width, vocabulary_size),
            "vocab_size": vocabulary_size,
            "n_embd": hidden,
            "n_layer": layers,
            "n_head": heads,
            "n_inner": width,
            "n_positions": positions,
            "tie_word_embeddings": shared["tie_word_embeddings"],
            "attn_pdrop": attention_dropout,
            "resid_pdrop": dropout,
        }
    return {**shared, "model_type": "gpt_neox", "use_parallel_residual": False, "hidden_dropout": dropout}


def _followed(config: Config, width: int, vocabulary_size: int) -> dict[str, ConfigValue]:
    """The model as Megatron's ranks build it, where their step is followed."""
    return {} if unfollowed(config) else {"megatron": of_rank(config, width, vocabulary_size)}


def _deepseek(config: Config, layers: int) -> Sizes:
    """Multi-latent attention, with experts or without: DeepSeek's."""
    sparse = _frequencies(config)
    dense = sparse.index(1) if 1 in sparse else layers
    number = config.integer("num_experts")
    wide = config.integer("moe_ffn_hidden_size") or config.integer("ffn_hidden_size")
    beside = config.integer("moe_shared_expert_intermediate_size") or 0
    return {
        "model_type": "deepseek_v3",
        "num_key_value_heads": config.integer("num_attention_heads"),
        "q_lora_rank": config.integer("q_lora_rank"),
        "kv_lora_rank": config.integer("kv_lora_rank"),
        "qk_nope_head_dim": config.integer("qk_head_dim"),
        "qk_rope_head_dim": config.integer("qk_pos_emb_head_dim"),
        "v_head_dim": config.integer("v_head_dim"),
        "n_routed_experts": number or 1,
        "n_shared_experts": beside // wide if wide else 0,
        "num_experts_per_tok": config.integer("moe_router_topk") if number else 1,
        "moe_intermediate_size": wide,
        "first_k_dense_replace": dense if number else layers,
        "n_group": 1,
        "topk_group": 1,
    }


def _mixture(config: Config) -> Sizes:
    """Experts: Mixtral's, or Qwen's where some run for every token."""
    number, chosen = config.integer("num_experts"), config.integer("moe_router_topk")
    beside = config.integer("moe_shared_expert_intermediate_size")
    wide = config.integer("moe_ffn_hidden_size")
    if beside:
        return {
            "model_type": "qwen2_moe",
            "num_experts": number,
            "num_experts_per_tok": chosen,
            "moe_intermediate_size": wide or config.integer("ffn_hidden_size"),
            "shared_expert_intermediate_size": beside,
        }
    found: dict[str, Plain] = {"model_type": "mixtral", "num_local_experts": number, "num_experts_per_tok": chosen}
    return {**found, "intermediate_size": wide} if wide else found
