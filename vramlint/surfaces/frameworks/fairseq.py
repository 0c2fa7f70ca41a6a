"""fairseq's Hydra configurations (fairseq 0.12.2 at 3d262bb: dataclass/configs.py, optim/fp16_optimizer.py).

Models are fairseq's own, chosen by `model._name`; sizes that a file gives are read, but no model is built from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.values import Items, Scalar

_ROWS = (
    Row("dataset.batch_size", "micro_batch_size", "count"),
    Row("dataset.batch_size_valid", "eval_micro_batch_size", "count"),
    Row("task.tokens_per_sample", "sequence_length", "count"),
    Row("task.max_source_positions", "sequence_length", "count"),
    Row("task.max_target_positions", "target_length", "count"),
    Row("optimization.clip_norm", "max_grad_norm", "number"),
    Row("optimizer.weight_decay", "weight_decay", "number"),
    Row("distributed_training.distributed_world_size", "world_size", "count"),
    Row("distributed_training.distributed_num_procs", "gpus_per_node", "count"),
    Row("model.checkpoint_activations", "activation_checkpointing", "flag"),
    Row("model.offload_activations", "activation_offloading", "flag"),
    Row("model.encoder_layers", "layers", "count"),
    Row("model.decoder_layers", "layers", "count"),
    Row("model.encoder_embed_dim", "hidden_size", "count"),
    Row("model.decoder_embed_dim", "hidden_size", "count"),
    Row("model.encoder_attention_heads", "attention_heads", "count"),
    Row("model.decoder_attention_heads", "attention_heads", "count"),
    Row("model.encoder_ffn_embed_dim", "intermediate_size", "count"),
    Row("model.decoder_ffn_embed_dim", "intermediate_size", "count"),
    Row("model.dropout", "dropout", "number"),
    Row("model.activation_fn", "activation", "text"),
)

_OBJECTIVES: Mapping[str, str] = MappingProxyType(
    {
        "masked_lm": "mlm",
        "language_modeling": "pretrain",
        "streaming_language_modeling": "pretrain",
        "translation": "seq2seq",
        "translation_multi_simple_epoch": "seq2seq",
        "multilingual_translation": "seq2seq",
        "translation_lev": "seq2seq",
        "denoising": "denoising",
        "sentence_prediction": "seq-cls",
        "sentence_ranking": "seq-cls",
        "speech_to_text": "speech-seq2seq",
    }
)
"""`task._name` and the objective; other tasks go by their own name."""

_OPTIMIZERS: Mapping[str, str] = MappingProxyType(
    {
        "adam": "adamw_torch",
        "adafactor": "adafactor",
        "sgd": "sgd",
        "nag": "nag",
        "adagrad": "adagrad",
        "adadelta": "adadelta",
        "lamb": "lamb",
        "cpu_adam": "deepspeed_cpu_adam",
    }
)
"""`optimizer._name`; its adam decays weights as AdamW does (optim/adam.py), and others go by their own name."""

_WAYS: Mapping[str, str] = MappingProxyType({"fully_sharded": "fsdp"})
"""`ddp_backend`; every other one keeps the whole model on each GPU."""


def _complete(config: Config) -> None:
    config.derive("loop", "plain", "fairseq has a training loop of its own")
    config.derive("tuning", "full", "fairseq has no adapters: what is not frozen trains")
    task = config.text("task._name") or config.text("task")
    config.state("objective", _OBJECTIVES.get(task, task), "task._name", "task") if task else None
    name = config.text("model._name") or config.text("model")
    config.unknown("model", f"fairseq's {name or 'model'} is no model of transformers", "model._name", "model")
    if config.fact("micro_batch_size") is None:
        bound = config.integer("dataset.max_tokens")
        limit = f"batches hold up to {bound} tokens" if bound else "dataset.max_tokens bounds batches by their tokens"
        config.unknown("micro_batch_size", limit, "dataset.max_tokens")
    _precision(config)
    _optimizer(config)
    _sharing(config)
    _steps(config)
    config.derive("torch_compile", False, "fairseq compiles nothing")


def _precision(config: Config) -> None:
    """16-bit modules with float32 masters, unless they are memory-efficient; autocast over float32 ones for `amp`."""
    narrow = "common.amp"
    for word, dtype in (("fp16", "float16"), ("bf16", "bfloat16")):
        key, lean = f"common.{word}", f"common.memory_efficient_{word}"
        on = config.on(key) or config.on(lean)
        config.state(word, on and not config.on(lean), key)
        if on:
            config.state("load_dtype", dtype if config.on(lean) else "float32", lean, key)
            config.derive(
                "precision", f"{word}-pure" if config.on(lean) else f"{word}-mixed", "masters are float32", key
            )
    if config.on(narrow):
        config.state("fp16", True, narrow, over=True)
    config.derive("load_dtype", "float32", "modules are made in float32")


def _optimizer(config: Config) -> None:
    name = config.text("optimizer._name") or config.text("optimizer")
    if name == "composite":
        config.unknown("optimizer", "groups of parameters have optimizers of their own", "optimizer._name")
    elif name:
        config.state("optimizer", _OPTIMIZERS.get(name, name), "optimizer._name", "optimizer")
    else:
        config.unknown("optimizer", "the file names no optimizer")


def _sharing(config: Config) -> None:
    backend = config.text("distributed_training.ddp_backend")
    world = config.fact("world_size")
    if world is None:
        config.unknown(
            "world_size", "fairseq takes every GPU that it sees", "distributed_training.distributed_world_size"
        )
    way = _WAYS.get(backend)
    if way is not None:
        config.state("parallelism", way, "distributed_training.ddp_backend")
        config.state("fsdp", "full_shard", "distributed_training.ddp_backend")
    elif world is not None and isinstance(world.value, int):
        config.derive("parallelism", "ddp" if world.value > 1 else "none", f"{world.value} GPUs", world.key)


def _steps(config: Config) -> None:
    key = "optimization.update_freq"
    value = config.value(key)
    first = value.values[0] if isinstance(value, Items) and value.values else value
    if isinstance(first, Scalar) and isinstance(first.value, int):
        config.state("gradient_accumulation_steps", first.value, key)
    elif value is None:
        config.state("gradient_accumulation_steps", 1, key)
    else:
        config.unknown("gradient_accumulation_steps", "decided at run time", key)


FRAMEWORK = Framework(
    "fairseq",
    "fairseq",
    "fairseq",
    _ROWS,
    _complete,
    closed=frozenset(
        {"tuning", "quantization_bits", "fused_loss", "attention_implementation", "zero_stage", "load_dtype"}
    ),
)
