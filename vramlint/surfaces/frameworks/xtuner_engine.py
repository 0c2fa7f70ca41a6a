"""Runs of XTuner's own engine: `trainer = TrainerConfig(model_cfg=…, fsdp_cfg=…)` (xtuner 1.0 v1/train/trainer.py)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.frameworks.framework import Config
from vramlint.surfaces.overrides import DIMENSIONS
from vramlint.values import Scalar, Table

_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "Qwen3Dense8BConfig": "Qwen/Qwen3-8B",
        "Qwen3Dense4BConfig": "Qwen/Qwen3-4B",
        "Qwen3Dense0P6BConfig": "Qwen/Qwen3-0.6B",
        "Qwen2Dense7BConfig": "Qwen/Qwen2.5-7B",
        "Qwen3MoE30BA3Config": "Qwen/Qwen3-30B-A3B",
        "Qwen3MoE235BA22Config": "Qwen/Qwen3-235B-A22B",
        "DeepSeekV3Config": "deepseek-ai/DeepSeek-V3",
        "GptOss21BA3P6Config": "openai/gpt-oss-20b",
        "GptOss117BA5P8Config": "openai/gpt-oss-120b",
    }
)
"""Classes of `model_cfg` and the model whose sizes are their defaults (v1/model/{dense,moe}/*.py)."""
_VISION = ("VL", "InternS1", "TimeSeries")
"""Parts of the names of classes with towers."""
_OPTIMIZERS: Mapping[str, str] = MappingProxyType({"AdamWConfig": "adamw_torch", "MuonConfig": "muon"})

_ROWS = (
    ("load_from", "model", "text"),
    ("dataloader_cfg.pack_max_length", "sequence_length", "count"),
    ("global_batch_size", "global_batch_size", "count"),
    ("sp_size", "context_parallel", "count"),
    ("fsdp_cfg.tp_size", "tensor_parallel", "count"),
    ("fsdp_cfg.ep_size", "expert_parallel", "count"),
    ("fsdp_cfg.reshard_after_forward", "fsdp_reshard_after_forward", "flag"),
    ("fsdp_cfg.torch_compile", "torch_compile", "flag"),
    ("optim_cfg.max_grad_norm", "max_grad_norm", "number"),
    ("optim_cfg.weight_decay", "weight_decay", "number"),
)
_ONLINE = (
    ("train_worker_cfg.pack_max_length", "sequence_length", "count"),
    ("resources.num_workers", "world_size", "count"),
    ("rollout_config.gpu_memory_utilization", "inference_memory_fraction", "number"),
    ("rollout_config.tensor_parallel_size", "inference_tensor_parallel", "count"),
    ("agent_loop_manager_cfg.tasks.sampler_config.prompt_repeat_k", "generations", "count"),
    ("agent_loop_manager_cfg.tasks.agent_loop_config.sample_params.max_tokens", "completion_length", "count"),
)
"""Keys of reinforcement learning alone (v1/train/rl_trainer.py)."""
_TRAINERS = ("trainer", "trainer_cfg", "trainer_config", "train_worker_cfg")


def engine(config: Config) -> None:
    """The facts of a run of the engine; of reinforcement learning what it shares with it."""
    trainer = next((name for name in _TRAINERS if config.given(name)), "trainer")
    kind = config.text(f"{trainer}.type").rpartition(".")[2]
    online = kind.startswith("RL") or trainer == "train_worker_cfg"
    head = f"{trainer}.train_worker_cfg" if config.given(f"{trainer}.train_worker_cfg") else trainer
    for key, fact, converter in _ROWS:
        config.say(fact, f"{head}.{key}", converter)
    for key, fact, converter in _ONLINE if online else ():
        config.say(fact, f"{trainer}.{key}", converter)
    if online:
        config.say("prompt_length", "max_prompt_length", "count")
    config.state("max_grad_norm", 1.0)
    _network(config, f"{head}.model_cfg", online=online)
    config.derive("loop", "plain", "the engine runs its own loop")
    config.derive("tuning", "full", "the engine trains no adapters")
    config.derive("bf16", True, "FSDP gathers the weights in bfloat16")
    config.derive("load_dtype", "float32", "FSDP keeps shares in float32")
    config.derive("fsdp", "full_shard", "the engine shards by FSDP2", f"{head}.fsdp_cfg")
    config.derive("fsdp_version", 2, "the engine shards by FSDP2")
    config.derive("micro_batch_size", 1, "a batch is one packed row")
    config.derive("packing", True, "rows are filled to pack_max_length", f"{head}.dataloader_cfg.pack_max_length")
    config.derive("padding_free", True, "attention runs over the samples of a row")
    config.derive("attention_implementation", "flash_attention_2", "the engine has flash attention alone")
    optimizer = config.text(f"{head}.optim_cfg.type").rpartition(".")[2]
    if optimizer in _OPTIMIZERS:
        config.state("optimizer", _OPTIMIZERS[optimizer], f"{head}.optim_cfg.type")
    _recompute(config, f"{head}.fsdp_cfg")
    if config.text(f"{head}.loss_cfg.mode") == "chunk":
        config.state("fused_loss", True, f"{head}.loss_cfg.mode")
        config.state("loss_type", "chunked_nll", f"{head}.loss_cfg.mode")
        config.derive("liger", False, "the loss is the engine's own", f"{head}.loss_cfg.mode")


def _network(config: Config, key: str, *, online: bool) -> None:
    name = config.text(f"{key}.type").rpartition(".")[2]
    vision = any(part in name for part in _VISION)
    config.state("objective", "grpo" if online else "sft-vlm" if vision else "sft", f"{key}.type")
    place = config.place(f"{key}.type")
    model = config.fact("model")
    if name in _NAMES and (model is None or not model.known):
        config.draft.replace(
            Fact("model", (Candidate(_NAMES[name], place),), Origin.DERIVED, key, "code", reason=f"{name}'s sizes")
        )
    given = config.value(key)
    if isinstance(given, Table):
        kept = tuple([entry for entry in given if entry.key in DIMENSIONS and isinstance(entry.value, Scalar)])
        config.draft.tables += [("config-overrides", Table(kept, given.place))] if kept else []


def _recompute(config: Config, key: str) -> None:
    """`recompute_ratio`: the part of the layers that are recomputed; none without `fsdp_cfg` (its default is None)."""
    ratio = config.plain(f"{key}.recompute_ratio") if config.given(f"{key}.recompute_ratio") else 1.0
    if not isinstance(ratio, int | float):
        config.unknown("activation_checkpointing", "recompute_ratio is known at run time", f"{key}.recompute_ratio")
        return
    config.state("activation_checkpointing", ratio > 0, f"{key}.recompute_ratio")
