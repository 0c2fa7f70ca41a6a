"""verl's SFT trainers: trainer/fsdp_sft_trainer.py with FSDP alone, and trainer/sft_trainer.py over engines (0.8)."""

from __future__ import annotations

from vramlint.surfaces.frameworks.framework import Config, Row
from vramlint.surfaces.frameworks.verl_words import DTYPES, megatron, optimizer, sharding, tuning

SFT_ROWS = (
    Row("model.partial_pretrain", "model", "text"),
    Row("model.path", "model", "text"),
    Row("data.max_length", "sequence_length", "count"),
    Row("model.enable_gradient_checkpointing", "activation_checkpointing", "flag"),
    Row("model.enable_activation_offload", "activation_offloading", "flag"),
    Row("model.use_liger", "liger", "flag"),
    Row("model.trust_remote_code", "trust_remote_code", "flag"),
    Row("model.use_fused_kernels", "fused_loss", "flag"),
    Row("model.tiled_mlp.enabled", "tiled_mlp", "flag"),
)


def complete_sft(config: Config) -> None:
    """What an SFT trainer makes of its keys; torchrun says how many GPUs there are."""
    config.derive("loop", "script", "verl's trainer computes its own loss from the logits")
    config.by_program("objective", "sft")
    config.derive("checkpointing_reentrant", False, "verl asks for checkpointing without reentrance")
    config.derive("attention_implementation", "flash_attention_2", "verl asks for FlashAttention")
    config.derive("quantization_bits", 16, "verl trains no quantized weights")
    config.derive("torch_compile", False, "verl does not compile the model")
    config.derive("packing", False, "verl does not join samples")
    config.derive("liger_fused_head", False, "the trainer's loss is computed from logits")
    if config.keys == "verl-sft":
        _plain(config)
    else:
        _over_engine(config)


def _plain(config: Config) -> None:
    tuning(config, "model")
    micro, old = "data.micro_batch_size_per_gpu", "data.micro_batch_size"
    if not config.say("micro_batch_size", micro, "count"):
        config.state("micro_batch_size", config.integer(micro) or config.integer(old) or 4, micro)
    word = config.text("model.fsdp_config.model_dtype") or "fp32"
    config.state("load_dtype", DTYPES.get(word, word), "model.fsdp_config.model_dtype")
    config.derive("precision", "bf16-mixed", "the trainer's autocast and FSDP compute in bfloat16")
    optimizer(config, "optim")
    config.derive("parallelism", "fsdp", "the trainer shards the model by FSDP")
    config.derive("sync_each_batch", True, "the trainer never leaves gradients unreduced")
    config.state("fsdp_version", 2 if config.text("model.strategy") == "fsdp2" else 1, "model.strategy")
    offload = "model.fsdp_config.cpu_offload"
    config.state("fsdp", "full_shard offload" if config.on(offload) else "full_shard", offload)
    config.state("offload_parameters", "cpu" if config.on(offload) else "none", offload)
    config.state("max_grad_norm", _number(config, "optim.clip_grad"), "optim.clip_grad")
    size = _sequences(config, "ulysses_sequence_parallel_size")
    split = config.on("use_remove_padding") and size > 1
    config.state("padding_free", split, "use_remove_padding")
    config.derive("pad_to_maximum", True, "every sample is padded to data.max_length")


def _over_engine(config: Config) -> None:
    tuning(config, "model")
    micro, length = "data.micro_batch_size_per_gpu", config.integer("data.max_length")
    if config.on("data.use_dynamic_bsz"):
        bound = config.integer("data.max_token_len_per_gpu")
        if bound and length:
            reason = f"micro batches of {bound} tokens hold so many samples of {length}"
            config.derive("micro_batch_size", max(1, bound // length), reason, "data.max_token_len_per_gpu")
    elif not config.say("micro_batch_size", micro, "count"):
        config.state("micro_batch_size", config.integer(micro), micro)
    strategy = config.text("engine.strategy")
    if strategy == "megatron" or config.given("engine.tensor_model_parallel_size") or _named(config, "megatron"):
        megatron(config, "engine", "optim")
    else:
        word = config.text("engine.model_dtype") or "fp32"
        config.state("load_dtype", DTYPES.get(word, word), "engine.model_dtype")
        half = DTYPES.get(config.text("engine.dtype")) == "float16"
        config.state("precision", "fp16-mixed" if half else "bf16-mixed", "engine.dtype")
        optimizer(config, "optim")
        sharding(config, "engine", "engine.strategy")
        _sequences(config, "engine.ulysses_sequence_parallel_size")
    config.state("max_grad_norm", _number(config, "optim.clip_grad"), "optim.clip_grad")
    config.state("padding_free", config.on("model.use_remove_padding"), "model.use_remove_padding")
    if config.on("model.use_remove_padding"):
        config.derive("padding", False, "verl takes the padding out", "model.use_remove_padding")


def _sequences(config: Config, key: str) -> int:
    """How many GPUs share a sequence; verl asserts that padding is taken out before one is parted."""
    size = config.integer(key) or 1
    if size > 1:
        config.state("context_parallel", size, key)
        if config.on("use_remove_padding" if config.keys == "verl-sft" else "model.use_remove_padding"):
            config.derive("sequence_sharing", "verl", "verl's own Ulysses (utils/ulysses.py)", key)
    return size


def _named(config: Config, engine: str) -> bool:
    """Whether the command line chooses an engine: `engine=megatron`."""
    return config.text("engine") == engine


def _number(config: Config, key: str) -> float:
    value = config.plain(key)
    return float(value) if isinstance(value, int | float) else 1.0
