"""Configurations of DeepSpeed and FSDP that ms-swift ships and that its keys name: `--deepspeed zero2`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.surfaces.frameworks.stage_three import STAGE_THREE
from vramlint.text import Place
from vramlint.values import Entry, Plain, Scalar, Table

_Section = Mapping[str, "Plain | Mapping[str, Plain]"]

_COMMON: _Section = MappingProxyType(
    {
        "fp16": {"enabled": "auto"},
        "bf16": {"enabled": "auto"},
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
    }
)
_BUCKETS: Mapping[str, Plain] = MappingProxyType(
    {
        "allgather_partitions": True,
        "allgather_bucket_size": 2e8,
        "overlap_comm": False,
        "reduce_scatter": True,
        "reduce_bucket_size": 2e8,
        "contiguous_gradients": True,
    }
)


def _zero(stage: int, device: str = "none") -> Mapping[str, object]:
    offload = {"device": device, "pin_memory": True}
    named = {"offload_optimizer": offload} if stage else {}
    if stage == 3:
        return {**_COMMON, "zero_optimization": {"stage": stage, **named, "offload_param": offload, **STAGE_THREE}}
    return {**_COMMON, "zero_optimization": {"stage": stage, **named, **_BUCKETS}}


DEEPSPEED: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "zero0": _zero(0),
        "zero1": _zero(1),
        "zero2": _zero(2),
        "zero3": _zero(3),
        "zero2_offload": _zero(2, "cpu"),
        "zero3_offload": _zero(3, "cpu"),
    }
)
"""ms-swift 4.5 swift/config/zero*.json; `default-zero2`, `default-zero3` in 2.x."""

OLD_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "default-zero2": "zero2",
        "default-zero3": "zero3",
        "zero2-offload": "zero2_offload",
        "zero3-offload": "zero3_offload",
    }
)
"""Names of 2.x (swift/llm/utils/argument.py, handle_path)."""

FSDP: Mapping[str, tuple[str, Mapping[str, Plain]]] = MappingProxyType(
    {
        "fsdp2": (
            "full_shard auto_wrap",
            MappingProxyType(
                {
                    "fsdp_version": 2,
                    "reshard_after_forward": True,
                    "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
                    "cpu_ram_efficient_loading": True,
                    "state_dict_type": "SHARDED_STATE_DICT",
                    "activation_checkpointing": True,
                }
            ),
        )
    }
)
"""ms-swift 4.5 swift/config/fsdp2.json: the options, and the `fsdp_config`."""


def preset_table(values: Mapping[str, object], place: Place | None) -> Table:
    """A preset, every value at the place of its name."""
    return Table(tuple([Entry(key, place, _value(value, place)) for key, value in values.items()]), place)


def _value(value: object, place: Place | None) -> Table | Scalar:
    if isinstance(value, Mapping):
        return preset_table(value, place)
    return Scalar(value if isinstance(value, str | int | float) else None, place, "config-file")
