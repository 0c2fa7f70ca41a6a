"""Flags of `accelerate launch`, and variables that accelerate reads, in the words of its configuration file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from vramlint.surfaces.launch.scalars import typed
from vramlint.surfaces.launch.words import Parsed, Word
from vramlint.surfaces.overlay import overlaid
from vramlint.values import Entry, Scalar, Table, Value

_MESH = "parallelism_config_"
_TOP = ("num_processes", "num_machines", "mixed_precision", "gpu_ids")
_SECTIONS: tuple[tuple[str, str], ...] = (
    ("fsdp_", "fsdp_config"),
    (_MESH, "parallelism_config"),
    ("dynamo_", "dynamo_config"),
    ("megatron_lm_", "megatron_lm_config"),
)
"""Prefix of flags and the section of the file that has them."""

_DEEPSPEED = (
    "zero_stage",
    "offload_optimizer_device",
    "offload_param_device",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "zero3_init_flag",
    "zero3_save_16bit_model",
    "deepspeed_config_file",
)
_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "use_megatron_lm": "MEGATRON_LM",
        "multi_gpu": "MULTI_GPU",
        "tpu": "XLA",
        "use_fsdp": "FSDP",
        "use_deepspeed": "DEEPSPEED",
    }
)
"""Flags that choose how to train, and the `distributed_type` that they stand for (commands/launch.py)."""

_VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        "ACCELERATE_MIXED_PRECISION": "mixed_precision",
        "ACCELERATE_USE_DEEPSPEED": "use_deepspeed",
        "ACCELERATE_USE_FSDP": "use_fsdp",
        "ACCELERATE_USE_MEGATRON_LM": "use_megatron_lm",
        "ACCELERATE_DYNAMO_BACKEND": "dynamo_backend",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "gradient_accumulation_steps",
        "ACCELERATE_GRADIENT_CLIPPING": "gradient_clipping",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": "zero_stage",
        "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "offload_optimizer_device",
        "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "offload_param_device",
        "ACCELERATE_DEEPSPEED_ZERO3_INIT": "zero3_init_flag",
        "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "zero3_save_16bit_model",
        "ACCELERATE_DEEPSPEED_CONFIG_FILE": "deepspeed_config_file",
        "FSDP_VERSION": "fsdp_version",
        "FSDP_SHARDING_STRATEGY": "fsdp_sharding_strategy",
        "FSDP_RESHARD_AFTER_FORWARD": "fsdp_reshard_after_forward",
        "FSDP_OFFLOAD_PARAMS": "fsdp_offload_params",
        "FSDP_AUTO_WRAP_POLICY": "fsdp_auto_wrap_policy",
        "FSDP_TRANSFORMER_CLS_TO_WRAP": "fsdp_transformer_layer_cls_to_wrap",
        "FSDP_ACTIVATION_CHECKPOINTING": "fsdp_activation_checkpointing",
        "PARALLELISM_CONFIG_TP_SIZE": "parallelism_config_tp_size",
        "PARALLELISM_CONFIG_CP_SIZE": "parallelism_config_cp_size",
        "PARALLELISM_CONFIG_SP_SIZE": "parallelism_config_sp_size",
        "PARALLELISM_CONFIG_DP_SHARD_SIZE": "parallelism_config_dp_shard_size",
        "PARALLELISM_CONFIG_DP_REPLICATE_SIZE": "parallelism_config_dp_replicate_size",
    }
)
"""Variables through which the launcher tells the library, and the flags that set them (accelerate 1.15
utils/launch.py); a launcher's own environment may set them as well."""

_SET_BY_LAUNCHER = ("mixed_precision", "dynamo_backend")
"""What `accelerate launch` always sets, over what the environment says."""


def flags_table(parsed: Parsed | None, environment: Iterable[Entry]) -> Table | None:
    """What flags and variables say, as a configuration; None when they say nothing.

    Args:
        parsed: the options of `accelerate launch`; None for any other launcher.
        environment: variables that the program finds.
    """
    found: list[tuple[str, Word]] = []
    for entry in environment:
        flag = _VARIABLES.get(entry.key)
        place = entry.value.place or entry.key_place
        if flag and place is not None and not (parsed is not None and flag in _SET_BY_LAUNCHER):
            found.append((flag, Word(entry.value, place)))
    table = _chosen(parsed) if parsed is not None else Table(())
    for name, word in (*found, *(_heard(parsed) if parsed is not None else ())):
        said = _entry(name, word)
        table = overlaid(table, Table((said,))) if said is not None else table
    return table if table.entries else None


def _heard(parsed: Parsed) -> Iterable[tuple[str, Word]]:
    """The flags that the launcher hands on: sizes of a mesh wait for `--use_parallelism_config`.

    A file may stand for it where no flag says how to train (commands/launch.py, _validate_launch_command).
    """
    options = parsed.options
    by_file = ("config_file" in options or parsed.open is not None) and not (_KINDS.keys() & options.keys())
    meshes = "use_parallelism_config" in options or by_file
    return [item for item in options.items() if meshes or not item[0].startswith(_MESH)]


def _chosen(parsed: Parsed) -> Table:
    """How to train where neither flag nor file says so: several processes are MULTI_GPU (_validate_launch_command)."""
    number = parsed.options.get("num_processes")
    if (
        number is None
        or "config_file" in parsed.options
        or parsed.open is not None
        or not (number.text or "").isdigit()
    ):
        return Table(())
    kind = "MULTI_GPU" if int(number.text or "1") > 1 else "NO"
    return Table((Entry("distributed_type", number.place, Scalar(kind, number.written, "cli")),))


def _entry(name: str, word: Word) -> Entry | None:
    if name in _KINDS:
        off = (word.text or "").lower() in ("false", "0", "no")
        kind = Scalar(_KINDS[name], word.written, "cli")
        return None if off else Entry("distributed_type", word.place, kind)
    if name in _TOP:
        return Entry(name, word.place, _value(word))
    if name in _DEEPSPEED:
        return Entry("deepspeed_config", None, Table((Entry(name, word.place, _value(word)),)))
    for prefix, section in _SECTIONS:
        if name.startswith(prefix):
            return Entry(section, None, Table((Entry(name, word.place, _value(word)),)))
    return None


def _value(word: Word) -> Value:
    return typed(word, words=False)
