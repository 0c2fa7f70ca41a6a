"""Keys of an Accelerate configuration that Accelerate drops without a word, or refuses beside a DeepSpeed file.

`accelerate launch` copies every key of a section onto its arguments and hands on those that are options of its own
(accelerate 1.15 commands/launch.py, _validate_launch_command); the rest goes nowhere. A DeepSpeed file beside keys of
its own is refused (utils/dataclasses.py, DeepSpeedPlugin._deepspeed_config_checks).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from vramlint.catalog.deepspeed import all_deepspeed_keys
from vramlint.facts import TAKES_EFFECT, Remark, Repair
from vramlint.text import Place
from vramlint.values import Entry, Scalar, Table

VOCABULARY = "accelerate"

_DEEPSPEED = (
    "deepspeed_config_file",
    "deepspeed_exclusion_filter",
    "deepspeed_hostfile",
    "deepspeed_inclusion_filter",
    "deepspeed_moe_layer_cls_names",
    "deepspeed_multinode_launcher",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "offload_optimizer_device",
    "offload_optimizer_nvme_path",
    "offload_param_device",
    "offload_param_nvme_path",
    "zero3_init_flag",
    "zero3_save_16bit_model",
    "zero_stage",
)
_FSDP = (
    "fsdp_activation_checkpointing",
    "fsdp_activation_checkpointing_offload",
    "fsdp_auto_wrap_policy",
    "fsdp_backward_prefetch",
    "fsdp_backward_prefetch_policy",
    "fsdp_cpu_ram_efficient_loading",
    "fsdp_forward_prefetch",
    "fsdp_ignored_modules",
    "fsdp_min_num_params",
    "fsdp_offload_params",
    "fsdp_reshard_after_forward",
    "fsdp_sharding_strategy",
    "fsdp_state_dict_type",
    "fsdp_sync_module_states",
    "fsdp_transformer_layer_cls_to_wrap",
    "fsdp_use_orig_params",
    "fsdp_version",
)
_SECTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType({"deepspeed_config": _DEEPSPEED, "fsdp_config": _FSDP})
"""Options of `accelerate launch` by the section that holds them (accelerate 0.17 to 1.15 commands/launch.py)."""

_LIKE = 0.88
"""How alike (difflib's ratio) a key and an option must be to be taken for a misspelling."""

_OF_THE_FILE = (
    "zero_stage",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "offload_optimizer_device",
    "offload_param_device",
    "offload_optimizer_nvme_path",
    "offload_param_nvme_path",
    "zero3_save_16bit_model",
)
"""Keys that are refused beside `deepspeed_config_file`."""


def accelerate_key_remarks(table: Table, kind: str) -> Iterator[Remark]:
    """Keys that say nothing or too much.

    Args:
        table: root of the configuration.
        kind: its `distributed_type`, in capitals: a section that it does not use is not looked at.
    """
    for section, owner in (("deepspeed_config", "DEEPSPEED"), ("fsdp_config", "FSDP")):
        options = table.get(section)
        if kind == owner and isinstance(options, Table):
            yield from _dropped(section, options)
            yield from _refused(options)


def _dropped(section: str, options: Table) -> Iterator[Remark]:
    known = _SECTIONS[section]
    strangers = [entry for entry in options if _option(section, entry.key) not in known and entry.key_place]
    blocks = [entry for entry in strangers if _is_deepspeeds(entry)] if section == "deepspeed_config" else []
    yield from _pasted(section, blocks)
    for entry in strangers:
        near = _nearest(_option(section, entry.key), known) if entry not in blocks else ""
        if near and entry.key_place:
            message = f"{section} has no key {entry.key}: accelerate drops it without a word"
            repair = Repair(safe=False, rename=near, cost=TAKES_EFFECT)
            yield Remark("unknown-key", f"{section}.{entry.key}", message, entry.key_place, near, VOCABULARY, repair)


def _pasted(section: str, blocks: Sequence[Entry]) -> Iterator[Remark]:
    """Keys of DeepSpeed's own file, of which accelerate reads none: one remark, for they have one cause."""
    place = _place(blocks)
    if place is not None:
        names = ", ".join(entry.key for entry in blocks)
        what, belong = ("it", "it belongs") if len(blocks) == 1 else ("them", "they belong")
        effect = f"accelerate drops {what} without a word"
        message = f"{names} in {section}: {effect}; {belong} in the file that deepspeed_config_file names"
        yield Remark("unknown-key", f"{section}.{blocks[0].key}", message, place, "", VOCABULARY)


def _refused(options: Table) -> Iterator[Remark]:
    file = options.get("deepspeed_config_file")
    if not isinstance(file, Scalar) or str(file.value).lower() in ("none", "") or file.value is None:
        return
    beside = [entry for entry in options if entry.key in _OF_THE_FILE]
    place = _place(beside)
    if place is not None:
        names = ", ".join(entry.key for entry in beside)
        message = f"{names} beside deepspeed_config_file: accelerate refuses what belongs into the file"
        yield Remark("refused-setting", f"deepspeed_config.{beside[0].key}", message, place, vocabulary=VOCABULARY)


def _option(section: str, key: str) -> str:
    """The option that a key is copied to: `fsdp_config` gives its own the prefix."""
    return key if section != "fsdp_config" or key.startswith("fsdp") else f"fsdp_{key}"


def _is_deepspeeds(entry: Entry) -> bool:
    return entry.key in {row.key.partition(".")[0].split(" ")[0] for row in all_deepspeed_keys()}


def _nearest(key: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    return next(iter(get_close_matches(key, known, n=1, cutoff=_LIKE)), "")


def _place(entries: Sequence[Entry]) -> Place | None:
    return next((entry.key_place for entry in entries if entry.key_place is not None), None)
