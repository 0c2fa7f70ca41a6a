"""How the GPUs of a run of Axolotl share its work: FSDP in all its spellings, DeepSpeed, sizes of the device mesh.

axolotl 0.18 utils/schemas/{fsdp,validation}.py, utils/distributed.py, core/builders/base.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import MappingProxyType

from vramlint.surfaces.convert import sharding_first
from vramlint.surfaces.frameworks.axolotl_objectives import plugin, written
from vramlint.surfaces.frameworks.framework import Config
from vramlint.surfaces.frameworks.networks import Sizes
from vramlint.surfaces.fsdp_config import without_prefix
from vramlint.surfaces.model_config import table_of
from vramlint.surfaces.models import FROZEN_BY_HAND
from vramlint.values import Entry, Items, Scalar, Table

_SIZES = (
    ("dp_shard_size", "data_parallel_shard"),
    ("dp_replicate_size", "data_parallel_replicate"),
    ("tensor_parallel_size", "tensor_parallel"),
    ("context_parallel_size", "context_parallel"),
    ("sequence_parallel_degree", "context_parallel"),
)
_RINGS = {"varlen_llama3": "flash-gather", "batch_ring": "flash-ring"}
_VERSION = ("fsdp_version", "fsdp_config.fsdp_version", "fsdp_config.version")
_FSDP_ROWS = (
    ("use_orig_params", "fsdp_use_orig_params", "flag"),
    ("reshard_after_forward", "fsdp_reshard_after_forward", "flag"),
    ("mixed_precision_policy", "fsdp_mixed_precision", "text"),
)
_WRAPS = "auto_wrap_policy"

_CPU: Mapping[str, str] = MappingProxyType({"device": "cpu"})
_THIRD: Sizes = MappingProxyType(
    {
        "stage": 3,
        "overlap_comm": True,
        "sub_group_size": 0,
        "reduce_bucket_size": "auto",
        "stage3_prefetch_bucket_size": "auto",
        "stage3_param_persistence_threshold": "auto",
        "max_live_parameters": 0,
        "max_reuse_distance": 0,
        "gather_16bit_weights_on_model_save": True,
    }
)
_SHIPPED: Mapping[str, tuple[Sizes, str | bool, bool]] = MappingProxyType(
    {
        "zero1": ({"stage": 1, "overlap_comm": True}, "auto", True),
        "zero1_torch_compile": ({"stage": 1, "overlap_comm": True}, "auto", True),
        "zero2": ({"stage": 2, "offload_optimizer": _CPU, "overlap_comm": True}, "auto", True),
        "zero2_torch_compile": ({"stage": 2, "offload_optimizer": _CPU, "overlap_comm": True}, "auto", True),
        "zero3": (_THIRD, "auto", True),
        "zero3_bf16": (_THIRD, True, True),
        "zero3_bf16_cpuoffload_all": ({**_THIRD, "offload_optimizer": _CPU, "offload_param": _CPU}, True, False),
        "zero3_bf16_cpuoffload_params": ({**_THIRD, "offload_param": _CPU}, True, False),
    }
)
"""`deepspeed_configs/*.json` of axolotl 0.18, which `axolotl fetch deepspeed_configs` puts into a project: ZeRO's
section, `bf16.enabled`, `zero_force_ds_cpu_optimizer`. What the Trainer fills in is left out."""
_FOLDER = "deepspeed_configs/"


def sharding(config: Config) -> None:
    """The facts of what the GPUs share."""
    config.link("deepspeed", "deepspeed")
    _fsdp(config)
    for key, fact in _SIZES:
        config.say(fact, key, "count")
    _sequences(config)
    if plugin(config, "integrations.expert_parallel.") is not None:
        config.say("expert_parallel", "expert_parallel_size", "count")
    if config.on("use_ray"):
        config.say("world_size", "ray_num_workers", "count")
    _world(config)
    config.say("device_map", "device_map", "device-map")
    _changing_parts(config)


def _sequences(config: Config) -> None:
    """Which of ring-flash-attn's functions attends to shared sequences (validation.py, validate_ring_attn_func)."""
    key = next((key for key in ("context_parallel_size", "sequence_parallel_degree") if config.integer(key)), None)
    if key is None or (config.integer(key) or 1) == 1 or config.on("use_glm_dsa_kernels"):
        return
    packed = "varlen_llama3" if config.on("sample_packing") else "batch_ring"
    function = config.text("ring_attn_func") or packed
    form = _RINGS.get(function)
    config.say("sequence_head_stride", "heads_k_stride", "count")
    if form is not None:
        config.derive("sequence_sharing", form, f"ring-flash-attn's {function} attends", "ring_attn_func", key)


def shipped(target: str) -> Table | None:
    """The DeepSpeed configuration of that path among those that come with Axolotl.

    Args:
        target: as `deepspeed` says it.
    """
    if _FOLDER not in target:
        return None
    found = _SHIPPED.get(target.rpartition("/")[2].removesuffix(".json"))
    if found is None:
        return None
    zero, bf16, forces = found
    rest = table_of(
        {
            "bf16": {"enabled": bf16},
            "fp16": {"enabled": "auto"} if bf16 == "auto" else None,
            "zero_force_ds_cpu_optimizer": forces,
            "gradient_accumulation_steps": "auto",
            "train_micro_batch_size_per_gpu": "auto",
        }
    )
    return Table((Entry("zero_optimization", None, table_of(zero)), *rest.entries))


def _fsdp(config: Config) -> None:
    options = config.value("fsdp_config")
    words = config.words("fsdp")
    table = without_prefix(options) if isinstance(options, Table) else Table(())
    if words:
        value = config.value("fsdp")
        first = value.values[0].place if isinstance(value, Items) and value.values else config.place("fsdp")
        if first is not None:
            config.draft.put(written("fsdp", sharding_first(words), first, "fsdp"))
    elif table.entries:
        config.state("fsdp", True, "fsdp_config")
    else:
        return
    if table.get("transformer_layer_cls_to_wrap") is None and table.get(_WRAPS) is not None and not words:
        place = config.place(f"fsdp_config.{_WRAPS}", f"fsdp_config.fsdp_{_WRAPS}")
        table = Table((*table.entries, Entry("min_num_params", None, Scalar(0, place))), table.place)
    config.draft.tables.append(("fsdp", table))
    written_version = next((config.integer(key) for key in _VERSION if config.given(key)), None)
    config.state("fsdp_version", written_version or config.integer(_VERSION[0]) or 1, *_VERSION)
    for key, fact, converter in _FSDP_ROWS:
        if not config.say(fact, f"fsdp_config.{key}", converter):
            config.say(fact, f"fsdp_config.fsdp_{key}", converter)


def _world(config: Config) -> None:
    """The GPUs of a device mesh whose every size is written: Axolotl refuses to start with another number."""
    sizes = [
        config.integer(key) or 1
        for key in ("dp_shard_size", "dp_replicate_size", "tensor_parallel_size", "context_parallel_size")
    ]
    shards, copies = sizes[:2]
    if shards > 1 and copies > 1:
        experts = config.integer("expert_parallel_size") or 1
        config.derive("world_size", prod((*sizes, experts)), "the product of the mesh's sizes", "dp_shard_size")


def _changing_parts(config: Config) -> None:
    """Methods that train other parts of the model at other times, or parts that a scan of the checkpoint chooses."""
    if config.text("adapter"):
        return
    if config.on("lisa_n_layers") and config.on("lisa_step_interval"):
        config.derive(
            "tuning", "full", f"{FROZEN_BY_HAND}: LISA trains some layers at a time", "lisa_n_layers", over=True
        )
    elif plugin(config, "integrations.spectrum.") is not None:
        reason = f"{FROZEN_BY_HAND}: Spectrum chooses which train"
        config.derive("tuning", "full", reason, "spectrum_top_fraction", over=True)
