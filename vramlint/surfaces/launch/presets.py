"""Accelerate configurations that TRL ships and its command line names: `trl sft --accelerate_config zero3`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.surfaces.launch.words import Word
from vramlint.text import Place
from vramlint.values import Entry, Plain, Scalar, Table

_Section = Mapping[str, "Plain | Mapping[str, Plain]"]

_FSDP: Mapping[str, Plain] = MappingProxyType(
    {
        "fsdp_activation_checkpointing": False,
        "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "fsdp_offload_params": False,
    }
)
_PRESETS: Mapping[str, _Section] = MappingProxyType(
    {
        "single_gpu": {"distributed_type": "NO"},
        "multi_gpu": {"distributed_type": "MULTI_GPU"},
        "zero1": {
            "distributed_type": "DEEPSPEED",
            "deepspeed_config": {"zero_stage": 1, "gradient_accumulation_steps": 1},
        },
        "zero2": {"distributed_type": "DEEPSPEED", "deepspeed_config": {"zero_stage": 2}},
        "zero3": {
            "distributed_type": "DEEPSPEED",
            "deepspeed_config": {"zero_stage": 3, "zero3_save_16bit_model": True},
        },
        "fsdp1": {
            "distributed_type": "FSDP",
            "fsdp_config": {**_FSDP, "fsdp_version": 1, "fsdp_reshard_after_forward": "FULL_SHARD"},
        },
        "fsdp2": {
            "distributed_type": "FSDP",
            "fsdp_config": {**_FSDP, "fsdp_version": 2, "fsdp_reshard_after_forward": True},
        },
    }
)
"""trl 1.9 accelerate_configs/*.yaml. Each is for 8 processes in bfloat16."""

_COMMON: _Section = MappingProxyType({"mixed_precision": "bf16", "num_machines": 1, "num_processes": 8})


def preset_of(word: Word) -> Table | None:
    """The configuration that a name stands for, every value at the place of the name; None for a path."""
    sections = _PRESETS.get(word.text or "")
    return _table({**_COMMON, **sections}, word.written) if sections is not None else None


def _table(values: Mapping[str, object], place: Place) -> Table:
    return Table(tuple([Entry(key, place, _value(value, place)) for key, value in values.items()]), place)


def _value(value: object, place: Place) -> Table | Scalar:
    if isinstance(value, Mapping):
        return _table(value, place)
    return Scalar(value if isinstance(value, str | int | float) else None, place, "cli")
