"""What Megatron's ranks hold, as far as it is followed: the layers they are made of and the buffers beside them.

NVIDIA/Megatron-LM@d98e8a6 megatron/training/arguments.py, megatron/core/{models/gpt,transformer,optimizer}.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.job import ConfigValue
from vramlint.surfaces.frameworks.framework import Config
from vramlint.surfaces.frameworks.megatron_forms import WORKSPACE
from vramlint.surfaces.frameworks.megatron_kinds import is_bert
from vramlint.surfaces.frameworks.megatron_layers import frequencies
from vramlint.values import Items, plain

UNFOLLOWED: Mapping[str, str] = MappingProxyType(
    {
        "moe_expert_capacity_factor": "experts with a capacity",
        "moe_use_legacy_grouped_gemm": "legacy grouped products",
        "overlap_moe_expert_parallel_comm": "experts' communication beside another micro batch",
        "moe_latent_size": "latent experts",
        "moe_layer_recompute": "recomputed experts",
        "use_transformer_engine_op_fuser": "Transformer Engine's fused operations",
        "mla_down_proj_fusion": "fused products of multi-latent attention",
        "experimental_attention_variant": "another attention",
        "mtp_use_repeated_layer": "one layer that predicts all further tokens",
        "mtp_detach_heads": "predictions of further tokens apart from the model",
        "hybrid_layer_pattern": "layers of several kinds",
        "hybrid_override_pattern": "layers of several kinds",
        "heterogeneous_layers_config_path": "layers of several kinds",
        "fp8_format": "8-bit products",
        "fp4_format": "4-bit products",
        "use_megatron_fsdp": "Megatron's own FSDP",
        "use_torch_fsdp2": "FSDP under Megatron",
        "fine_grained_activation_offloading": "activations on the host",
        "cpu_offloading_num_layers": "activations on the host",
        "fp32_residual_connection": "a float32 residual stream",
        "fp16_lm_cross_entropy": "a loss in 16 bits",
        "window_size": "sliding windows",
        "use_mup": "MuP's widths",
        "attention_output_gate": "gated attention",
        "deepspeed": "DeepSpeed under Megatron",
        "enable_cuda_graph": "CUDA graphs",
        "cuda_graph_impl": "CUDA graphs",
        "retro_workdir": "Retro",
        "img_h": "a vision tower",
        "vision_model_type": "a vision tower",
        "lora": "adapters under Megatron",
    }
)
"""Switches of what a rank then does otherwise than it is followed here."""

_OPTIMIZERS = frozenset({"adam", ""})
_POSITIONS = frozenset({"learned_absolute", "rope", "none"})


def unfollowed(config: Config) -> str:
    """Why a rank's step is not followed; empty where it is.

    Args:
        config: of a run of Megatron's flags.
    """
    for key, what in UNFOLLOWED.items():
        if config.given(key) and (config.on(key) or config.is_unknown(key)):
            return f"{what} ({key})"
    if config.text("optimizer") not in _OPTIMIZERS:
        return f"the optimizer {config.text('optimizer')}"
    if why := unfollowed_recomputation(config):
        return why
    if config.text("position_embedding_type") not in _POSITIONS:
        return f"{config.text('position_embedding_type')} positions"
    if config.given("num_experts") and (why := _unfollowed_experts(config)):
        return why
    if config.on("perform_rl_step"):
        return "reinforcement learning"
    return ""


MODULES = frozenset({"core_attn", "layernorm", "mla_up_proj", "mlp", "moe", "moe_act", "shared_experts"})
"""Parts of a layer whose recomputation is followed (core/transformer/transformer_config.py, recompute_modules)."""


def recomputed_modules(config: Config, key: str = "recompute_modules") -> tuple[str, ...]:
    """What selective recomputation runs again, as a list or in the words of one string; empty where nothing says it."""
    value = config.value(key) if key and config.given(key) else None
    written = plain(value) if isinstance(value, Items) else None
    said = " ".join(map(str, written)) if isinstance(written, list) else config.text(key) if value is not None else ""
    return tuple([word.strip("'\"") for word in said.strip("[]").replace(",", " ").split()])


def unfollowed_recomputation(config: Config, key: str = "recompute_modules") -> str:
    """Why what is recomputed is not followed; empty where it is.

    Args:
        config: of a run.
        key: that names the modules.
    """
    if config.given(key) and config.is_unknown(key):
        return f"a recomputation of unknown modules ({key})"
    others = sorted(set(recomputed_modules(config, key)) - MODULES)
    return f"recomputing {others[0]} ({key})" if others else ""


_DISPATCHERS = frozenset({"allgather", "alltoall"})


def _unfollowed_experts(config: Config) -> str:
    """Why a run with experts is not followed; empty where it is."""
    dispatcher = config.text("moe_token_dispatcher_type")
    if dispatcher not in _DISPATCHERS:
        return f"the token dispatcher {dispatcher}"
    if not _sparse_layers(config):
        return "experts in layers that are not known (moe_layer_freq)"
    return "" if config.on("disable_bias_linear") else "experts with biases"


def _experts(config: Config, width: int) -> dict[str, ConfigValue]:
    if not config.given("num_experts"):
        return {}
    return {
        "experts": config.integer("num_experts"),
        "experts_per_token": config.integer("moe_router_topk") or 2,
        "expert_intermediate_size": config.integer("moe_ffn_hidden_size") or width,
        "shared_expert_intermediate_size": config.integer("moe_shared_expert_intermediate_size") or 0,
        "dispatcher": config.text("moe_token_dispatcher_type"),
        "grouped_experts": config.on("moe_grouped_gemm"),
        "router_dtype": config.text("moe_router_dtype"),
        "sparse_layers": _sparse_layers(config),
    }


def _sparse_layers(config: Config) -> tuple[int, ...]:
    """1 for every layer with experts; empty where it cannot be told, or for another number of layers."""
    layers, written = config.integer("num_layers"), config.plain("moe_layer_freq")
    found = frequencies(str(1 if written is None else written), layers)
    return found if len(found) == layers else ()


def of_rank(config: Config, width: int, vocabulary: int) -> Mapping[str, ConfigValue]:
    """The model as a rank builds it, before it is divided: keys of memory/architectures/megatron.py.

    Args:
        config: of the run.
        width: of the MLP.
        vocabulary: padded.
    """
    hidden, heads = config.integer("hidden_size") or 0, config.integer("num_attention_heads") or 1
    gated = config.on("swiglu") or config.on("quick_geglu")
    biased = not config.on("disable_bias_linear")
    position = "rope" if config.on("use_rotary_position_embeddings") else config.text("position_embedding_type")
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": config.integer("num_layers") or config.integer("encoder_num_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": config.integer("num_query_groups") if config.on("group_query_attention") else heads,
        "head_dim": config.integer("kv_channels") or hidden // heads,
        "intermediate_size": width,
        "max_position_embeddings": config.integer("max_position_embeddings") or 0,
        "gated": gated,
        "bias": biased,
        "qkv_bias": biased or config.on("add_qkv_bias"),
        "normalization": config.text("normalization") or "LayerNorm",
        "qk_norm": config.on("qk_layernorm"),
        "rotary": position == "rope",
        "learned_positions": position == "learned_absolute",
        "hidden_dropout": config.plain("hidden_dropout"),
        "attention_dropout": config.plain("attention_dropout"),
        "implementation": _implementation(config),
        "softmax": _softmax(config),
        "tie_word_embeddings": not config.on("untie_embeddings_and_output_weights"),
        "bias_dropout_fusion": not config.on("no_bias_dropout_fusion"),
        "bias_activation_fusion": not config.on("no_bias_swiglu_fusion" if gated else "no_bias_gelu_fusion"),
        **_experts(config, width),
        **_latent(config),
        "attention_mask": not config.on("no_create_attention_mask_in_dataloader"),
        "predictions": config.integer("mtp_num_layers") or 0,
        "token_types": 2 if is_bert(config) and not config.on("bert_no_binary_head") else 0,
    }


def _latent(config: Config) -> dict[str, ConfigValue]:
    """The sizes of multi-latent attention."""
    if not config.on("multi_latent_attention"):
        return {}
    return {
        "latent": True,
        "q_lora_rank": config.integer("q_lora_rank") or 0,
        "kv_lora_rank": config.integer("kv_lora_rank"),
        "qk_nope_head_dim": config.integer("qk_head_dim"),
        "qk_rope_head_dim": config.integer("qk_pos_emb_head_dim"),
        "v_head_dim": config.integer("v_head_dim"),
    }


def _implementation(config: Config) -> str:
    """Whose modules the layers are made of; BERT's by its own flag (pretrain_bert.py, model_provider)."""
    if is_bert(config):
        return "local" if config.text("spec") == "local" else "transformer_engine"
    return config.text("transformer_impl")


def _softmax(config: Config) -> str:
    """Of a softmax that is not fused how it is made (arguments.py; core/transformer/transformer_config.py)."""
    wide = config.on("attention_softmax_in_fp32") or config.on("apply_query_key_layer_scaling")
    return ("float32" if wide else "torch") if config.on("no_masked_softmax_fusion") else ""


def ranks_share(config: Config) -> None:
    """Say that the ranks share a model of transformers by Megatron's degrees, or why that is not followed.

    Args:
        config: of a framework on Megatron-Core whose flags have Megatron's names.
    """
    tuning = config.fact("tuning")
    why = next((f"{what} ({key})" for key, what in UNFOLLOWED.items() if config.given(key) and config.on(key)), "")
    why = why or unfollowed_recomputation(config)
    if not why and (tuning is None or tuning.value != "full"):
        why = "adapters"
    if why:
        config.unknown("parallelism", f"{why} under Megatron is not simulated")
    else:
        config.derive("parallelism", "megatron", "Megatron's ranks share the model as its flags say")
    config.say("mtp_layers", "mtp_num_layers", "count")
    engine_facts(config)


_COUNTED = ("account_for_embedding_in_pipeline_split", "account_for_loss_in_pipeline_split")
"""Switches that let a part of the model take the place of a layer."""


def engine_facts(config: Config) -> None:
    """Say how the ranks run their part: model chunks, what is recomputed together, gradient buffers, workspaces."""
    counted = {"embedding_as_layer": _COUNTED[0], "loss_as_layer": _COUNTED[1]}
    for fact, key in counted.items():
        config.say(fact, key, "flag")
    config.say("first_stage_layers", "decoder_first_pipeline_num_layers", "count")
    config.say("last_stage_layers", "decoder_last_pipeline_num_layers", "count")
    layers, stages = config.integer("num_layers"), config.integer("pipeline_model_parallel_size") or 1
    layers = layers + sum(map(config.on, _COUNTED)) if layers else None
    each = config.integer("num_layers_per_virtual_pipeline_stage")
    if not config.say("pipeline_chunks", "num_virtual_stages_per_pipeline_rank", "count") and each and layers:
        config.state("pipeline_chunks", max(1, layers // stages // each), "num_layers_per_virtual_pipeline_stage")
    config.say("chunk_alternation", "microbatch_group_size_per_virtual_pipeline_stage", "count")
    config.say("distributed_optimizer_instances", "num_distributed_optimizer_instances", "count")
    config.say("recompute_method", "recompute_method", "text")
    config.say("recompute_layers", "recompute_num_layers", "count")
    modules = recomputed_modules(config)
    if modules:
        config.state("recompute_modules", modules, "recompute_modules")
    config.say("distributed_checkpoints", "distribute_saved_activations", "flag")
    fused = not config.on("no_gradient_accumulation_fusion")
    fused = fused and config.plain("gradient_accumulation_fusion") is not False
    keys = ("no_gradient_accumulation_fusion", "gradient_accumulation_fusion")
    config.state("gradient_accumulation_fusion", fused, *keys)
    if config.on("defer_embedding_wgrad_compute"):
        config.state("deferred_micro_batches", config.integer("wgrad_deferral_limit") or 0, "wgrad_deferral_limit")
    _gradients(config)
    _states(config)
    config.say("cublas_workspace", WORKSPACE, "text")


_DTYPES: Mapping[str, str] = MappingProxyType(
    {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "fp8": "float8"}
)
"""Words for dtypes (megatron/training/arguments.py, map_dtype)."""
_TORCH: Mapping[str, str] = MappingProxyType({"uint8": "float8"})
"""torch's words for what Transformer Engine's Adam makes of them."""


def dtype_of(word: str) -> str:
    """The dtype of a word, `fp32` or `torch.float32`; float32, Megatron's default, where there is none."""
    name = word.rpartition(".")[2]
    return _DTYPES.get(name) or _TORCH.get(name) or name or "float32"


STATES: Mapping[str, str] = MappingProxyType(
    {"master_dtype": "main_params_dtype", "average_dtype": "exp_avg_dtype", "variance_dtype": "exp_avg_sq_dtype"}
)


def _states(config: Config) -> None:
    """Dtypes of master weights and Adam's states, and which part of them is on the host."""
    if config.on("use_precision_aware_optimizer"):
        config.state("precise_optimizer", True, "use_precision_aware_optimizer")
        for fact, key in STATES.items():
            config.state(fact, dtype_of(config.text(key)), key)
    if config.on("optimizer_cpu_offload"):
        config.say("optimizer_offload_fraction", "optimizer_offload_fraction", "number")


def _gradients(config: Config) -> None:
    """Whether gradients of 16-bit weights are added up in float32: those of bfloat16 are, unless told not to.

    megatron/training/arguments.py, validate_args.
    """
    wide = config.on("accumulate_allreduce_grads_in_fp32")
    narrow = dtype_of(config.text("main_grads_dtype")) != "float32"
    wide = wide or not (config.on("fp16") or config.on("grad_reduce_in_bf16") or narrow)
    config.state("wide_gradients", wide, "accumulate_allreduce_grads_in_fp32", "grad_reduce_in_bf16")
