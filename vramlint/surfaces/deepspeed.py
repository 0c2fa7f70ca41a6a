"""The DeepSpeed JSON: which memory it takes and gives, and values that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from vramlint.facts import Candidate, Fact, Origin, Remark, Repair, Sheet
from vramlint.surfaces.deepspeed_types import as_read
from vramlint.surfaces.draft import place_of
from vramlint.surfaces.flat import stated_by
from vramlint.text import Place
from vramlint.values import Scalar, Table, Value

VOCABULARY = "deepspeed"

_STAGE_3_ONLY = (
    "offload_param",
    "cpu_offload_param",
    "prefetch_bucket_size",
    "param_persistence_threshold",
    "max_live_parameters",
    "max_reuse_distance",
    "gather_16bit_weights_on_model_save",
    "stage3_prefetch_bucket_size",
    "stage3_param_persistence_threshold",
    "stage3_model_persistence_threshold",
    "stage3_max_live_parameters",
    "stage3_max_reuse_distance",
    "stage3_gather_16bit_weights_on_model_save",
    "stage3_gather_fp16_weights_on_model_save",
    "stage3_module_granularity_threshold",
    "stage3_use_all_reduce_for_fetch_params",
    "stage3_allgather_sequential",
    "zero_quantized_weights",
    "zero_quantized_nontrainable_weights",
    "zero_quantized_gradients",
    "zero_hpz_partition_size",
    "mics_shard_size",
    "mics_hierarchical_params_gather",
)
"""Keys of zero_optimization that only ZeRO stage 3 reads (deepspeed 0.19.8, runtime/zero/config.py): with their prefix
and without it, which that reader takes too."""

_DEPRECATED = {
    "zero_optimization.cpu_offload": "zero_optimization.offload_optimizer",
    "zero_optimization.cpu_offload_param": "zero_optimization.offload_param",
    "zero_optimization.cpu_offload_use_pin_memory": "pin_memory inside the offload sections",
    "zero_optimization.stage3_gather_fp16_weights_on_model_save": (
        "zero_optimization.stage3_gather_16bit_weights_on_model_save"
    ),
    "bfloat16": "bf16",
    "allgather_size": "zero_optimization.allgather_bucket_size",
    "aio.thread_count": "aio.intra_op_parallelism",
}
"""Deprecated keys and what replaces them (deepspeed 0.19.8, runtime/zero/config.py)."""


def deepspeed_sheet(path: str, table: Table) -> Sheet:
    """What a DeepSpeed JSON says; the whole table is handed on as `deepspeed`, for the check of its keys."""
    facts, remarks = deepspeed_facts(table)
    return Sheet(path, "deepspeed-json", facts, remarks=remarks, tables=((VOCABULARY, table),))


def deepspeed_facts(table: Table, via: str = "config-file") -> tuple[tuple[Fact, ...], tuple[Remark, ...]]:
    """Facts and remarks of a DeepSpeed configuration, from a JSON file or a dict in a script.

    `"auto"` stays the value of its fact; `resolve` fills it as the Hugging Face Trainer does.
    """
    facts: dict[str, Fact] = {}
    remarks: list[Remark] = []
    for stated in stated_by(table, VOCABULARY, via=via, as_read=as_read):
        if isinstance(stated, Remark):
            remarks.append(stated)
        else:
            facts[stated.name] = stated
    _bare_zero(table, facts, via)
    remarks += _conflicts(table)
    remarks += _misplaced(table, facts.get("zero_stage"))
    remarks += _deprecated(table)
    return tuple(facts.values()), tuple(remarks)


def _bare_zero(table: Table, facts: dict[str, Fact], via: str) -> None:
    """`"zero_optimization": true`, the form of the first releases: ZeRO stage 1."""
    value = table.get("zero_optimization")
    if isinstance(value, Scalar) and isinstance(value.value, bool):
        candidate = Candidate(int(value.value), value.place)
        facts["zero_stage"] = Fact("zero_stage", (candidate,), Origin.WRITTEN, "zero_optimization", via)


def _is_true(value: Value | None) -> bool:
    return isinstance(value, Scalar) and value.value is True


def _conflicts(table: Table) -> Iterator[Remark]:
    fp16 = table.get("fp16", "enabled")
    bf16 = table.get("bf16", "enabled") or table.get("bfloat16", "enabled")
    place = place_of(bf16)
    if place and _is_true(fp16) and _is_true(bf16):
        message = "fp16 and bf16 are both enabled; DeepSpeed takes one of them"
        yield Remark("conflicting-keys", "bf16.enabled", message, place, vocabulary=VOCABULARY)


def _key_place(table: Table, *path: str) -> Place | None:
    entry = table.entry(*path)
    return (entry.key_place or place_of(entry.value)) if entry else None


def _misplaced(table: Table, stage: Fact | None) -> Iterator[Remark]:
    """What only stage 3 reads, in a table for another stage: one remark, for all of it has one cause."""
    zero = table.get("zero_optimization")
    if not isinstance(zero, Table) or not (stage is None or _is_beside(zero, stage)):
        return
    number = stage.value if stage else 0
    if number == 3:
        return
    placed = ((key, _key_place(zero, key)) for key in _STAGE_3_ONLY if not _says_nothing(zero.get(key), key))
    found = {key: place for key, place in placed if place}
    if found:
        have = "has" if len(found) == 1 else "have"
        reads = "it" if len(found) == 1 else "them"
        message = f"{', '.join(found)} {have} no effect at ZeRO stage {number}; only stage 3 reads {reads}"
        first = next(iter(found))
        offloads = any(isinstance(zero.get(key), Table) or key == "cpu_offload_param" for key in found)
        repair = Repair(
            safe=not offloads,  # whoever writes a block of offloading may mean stage 3
            remove=tuple(f"zero_optimization.{key}" for key in _STAGE_3_ONLY if zero.get(key) is not None),
            cost="nothing is offloaded, as before" if offloads else "",
        )
        subject = f"zero_optimization.{first}"
        yield Remark("misplaced-key", subject, message, found[first], vocabulary=VOCABULARY, repair=repair)


def _is_beside(zero: Table, stage: Fact) -> bool:
    """Whether the stage is written in the table itself: one that comes from elsewhere may be another next time."""
    entry = zero.entry("stage")
    if not isinstance(stage.value, int) or entry is None or entry.key_place is None or stage.place is None:
        return False
    return (stage.place.path, stage.place.span.line) == (entry.key_place.path, entry.key_place.span.line)


_OFF: Mapping[str, tuple[int, ...]] = MappingProxyType({"zero_hpz_partition_size": (0, 1), "mics_shard_size": (-1,)})
"""Sizes that switch nothing on."""


def _says_nothing(value: Value | None, key: str) -> bool:
    """Whether an offload block or flag switches nothing on, or a size is left to the trainer."""
    if isinstance(value, Table):
        device = value.get("device")
        return device is None or (isinstance(device, Scalar) and device.value in ("none", None))
    return isinstance(value, Scalar) and value.value in (False, None, "auto", *_OFF.get(key, ()))


def _deprecated(table: Table) -> Iterator[Remark]:
    for key, replacement in _DEPRECATED.items():
        place = _key_place(table, *key.split("."))
        if place:
            message = f"{key} is deprecated; use {replacement}"
            entry = table.entry(*key.split("."))
            repair = _replaced(key, replacement, entry.value) if entry is not None else None
            yield Remark("deprecated-key", key, message, place, vocabulary=VOCABULARY, repair=repair)


_SAME_VALUE = ("zero_optimization.stage3_gather_fp16_weights_on_model_save", "bfloat16")
_SWITCHES = ("zero_optimization.cpu_offload", "zero_optimization.cpu_offload_param")


def _replaced(key: str, replacement: str, value: Value) -> Repair | None:
    """The same said by the key that took over: `"cpu_offload": true` is offloading to `{"device": "cpu"}`."""
    new = replacement.rpartition(".")[2]
    if key in _SAME_VALUE:
        return Repair(safe=True, rename=new)
    if key in _SWITCHES and isinstance(value, Scalar) and value.value is False:
        return Repair(safe=True, remove=(key,))
    if key in _SWITCHES and _is_true(value):
        return Repair(safe=True, rename=new, put=((key, ("device", "cpu")),))
    return None
