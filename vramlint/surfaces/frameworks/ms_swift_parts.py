"""What both back ends of ms-swift share: forms of their files, the environment, attention, targets of adapters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from vramlint.catalog.models import find_model
from vramlint.facts import FactValue
from vramlint.patterns import lazy
from vramlint.surfaces.environment import allocator_of_variables
from vramlint.surfaces.frameworks.framework import Config, Row
from vramlint.surfaces.launch.framework_programs import PROGRAM
from vramlint.surfaces.overlay import overlaid
from vramlint.values import Entry, Plain, Scalar, Table

_MEGATRON = (
    "tensor_model_parallel_size",
    "pipeline_model_parallel_size",
    "expert_model_parallel_size",
    "context_parallel_size",
    "recompute_granularity",
    "micro_batch_size",
    "lr_warmup_fraction",
    "no_save_optim",
    "mcore_model",
)
"""Keys that only the Megatron back end has (megatron/arguments/megatron_args.py)."""

_MODELS = ("model", "model_id_or_path")

_BETWEEN = lazy(r"[\\/. ]")
"""What stands between the words of a program's name."""

_ATTENTION: Mapping[Plain, FactValue] = MappingProxyType(
    {
        "flash_attn": "flash_attention_2",
        True: "flash_attention_2",
        False: None,
        "flash": "flash_attention_2",
        "unfused": "eager",
        "local": "eager",
        "fused": "fused",
    }
)
"""`attn_impl`, `use_flash_attn` of 2.x and `attention_backend` of Megatron."""


def flattened(table: Table, plain: str, megatron: str) -> tuple[str, Table]:
    """The back end that a file is for, and its keys as one table: those of a Ray run stand in `train`."""
    train = table.get("train")
    if isinstance(train, Table):
        table = overlaid(table, train)
    told = any(table.entry(key) is not None for key in _MEGATRON)
    return (megatron if told and table.entry("per_device_train_batch_size") is None else plain), table


def first_given(config: Config, *keys: str) -> str:
    """The first key that the files write; the first of all where they write none."""
    return next((key for key in keys if config.given(key)), keys[0])


def say_rows(config: Config, rows: Iterable[Row]) -> None:
    """What keys say that matter only in some runs, and their defaults there."""
    for row in rows:
        if not config.say(row.fact, row.key, row.converter) and config.default(row.key) is not None:
            config.state(row.fact, config.default(row.key), row.key)


def environment_facts(config: Config) -> None:
    """What the `ENV` block of a file sets for the processes (swift/cli/main.py, parse_yaml_args)."""
    block = config.value("ENV")
    entries: tuple[Entry, ...] = tuple(block) if isinstance(block, Table) else ()
    config.draft.put(allocator_of_variables(entries))
    each, nodes = config.integer("ENV.NPROC_PER_NODE"), config.integer("ENV.NNODES")
    visible = config.value("ENV.CUDA_VISIBLE_DEVICES")
    if each is not None:
        config.state("gpus_per_node", each, "ENV.NPROC_PER_NODE")
        config.state("world_size", each * (nodes or 1), "ENV.NPROC_PER_NODE")
    elif isinstance(visible, Scalar) and visible.value is not None:
        config.state("world_size", len(str(visible.value).split(",")), "ENV.CUDA_VISIBLE_DEVICES")
    ray = config.integer("device_groups.nproc_per_node")
    if ray is not None and config.on("use_ray"):
        config.state("world_size", ray, "device_groups.nproc_per_node")
    group = config.integer("train.gpus")
    if group is not None:
        config.state("world_size", group, "train.gpus")


def command_of(config: Config) -> str:
    """`sft` of `swift sft`, `-m swift.cli.sft`, `swift/cli/sft.py`."""
    return _BETWEEN.split(config.text(PROGRAM).removesuffix(".py"))[-1]


def checkpoint_dtype(config: Config) -> tuple[str, bool]:
    """The dtype of the model's checkpoint, and whether a source states it."""
    row = find_model(next((name for key in _MODELS if (name := config.text(key))), ""))
    if row is None or row.dtype is None:
        return "bfloat16", False
    return row.dtype, row.dtype_status == "stated"


def processes(config: Config) -> int | None:
    """How many processes train; None where nobody says. Without NPROC_PER_NODE and NNODES it is one."""
    alone = is_alone(config)
    for fact in (config.around.get("world_size"), config.fact("world_size")):
        if fact is not None and alone and fact.key.endswith("CUDA_VISIBLE_DEVICES"):
            return 1
        if fact is not None:
            return fact.value if isinstance(fact.value, int) else None
    return 1 if config.command and alone else None


def is_alone(config: Config) -> bool:
    """Whether no launcher starts several processes."""
    launcher = config.around.get("launcher")
    return launcher is None or launcher.value == "python"


def attention(config: Config) -> None:
    """`attn_impl`, or the switch of 2.x."""
    config.translate("attention_implementation", first_given(config, "attn_impl", "use_flash_attn"), _ATTENTION)


def backend_attention(config: Config) -> None:
    """`attention_backend` of Megatron."""
    config.translate("attention_implementation", "attention_backend", _ATTENTION)


def targets(config: Config) -> None:
    """Which modules get adapters: all linear ones unless some are named."""
    key = first_given(config, "target_regex", "target_modules", "lora_target_modules")
    if not config.given(key):
        key = "target_modules"
    named = config.words(key)
    every = named in ((), ("all-linear",), ("ALL",), ("DEFAULT",), ("AUTO",))
    one: FactValue = named[0] if len(named) == 1 and key == "target_regex" else named
    config.state("lora_target_modules", "all-linear" if every else one, key)
    saved = config.words(first_given(config, "modules_to_save", "lora_modules_to_save"))
    if saved:
        config.state("lora_modules_to_save", saved, "modules_to_save", "lora_modules_to_save")
