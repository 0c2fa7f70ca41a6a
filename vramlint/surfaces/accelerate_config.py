"""Accelerate's configuration: the YAML or JSON of `accelerate launch --config_file`, and its flags in the same words.

What accelerate does not know inside of `deepspeed_config` and `fsdp_config` it drops without a word: it copies every
key onto its arguments and reads its own (accelerate 1.15 commands/launch.py). A DeepSpeed block there says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from vramlint.facts import Candidate, Fact, Link, Origin, Sheet
from vramlint.surfaces.accelerate_keys import accelerate_key_remarks
from vramlint.surfaces.accelerate_words import (
    ACCELERATE_CONVERTERS,
    STRATEGIES,
    compiles,
    precision,
    processes,
    strategy,
    whole_word,
    word_of,
)
from vramlint.surfaces.convert import Converted, Outcome
from vramlint.surfaces.draft import Draft, Drawn, draw, unknown
from vramlint.surfaces.fsdp_config import common_facts, file_facts, sharding, without_prefix
from vramlint.surfaces.keys import all_rows
from vramlint.surfaces.numbers import divided
from vramlint.surfaces.overlay import overlaid
from vramlint.surfaces.parallelism_config import degrees
from vramlint.values import Entry, Scalar, Table, Value

KIND = "accelerate-config"
_MESH = "parallelism_config_"
"""Begins the keys of a mesh's sizes."""

_STAGE = 2
"""ZeRO stage where none is given (accelerate 1.15 utils/dataclasses.py, DeepSpeedPlugin)."""


def accelerate_sheet(path: str, table: Table) -> Sheet:
    """The facts of an Accelerate configuration by itself.

    Args:
        path: the file, or the launcher whose flags spell it.
        table: its root.
    """
    draft = Draft()
    kind = str(word_of(table.get("distributed_type")) or "").upper()
    _strategy(draft, table, kind)
    _processes(draft, table, kind)
    _precision(draft, table.get("mixed_precision"))
    if kind == "DEEPSPEED":
        _deepspeed(draft, table)
    if kind == "FSDP":
        options = without_prefix(_part(table, "fsdp_config"))
        draft.replace(sharding(options, table.get("distributed_type")))
        version = options.get("version")
        draft.put(
            draw("fsdp_version", version, whole_word, "fsdp_config.fsdp_version") if version is not None else None
        )
        draft.put(Fact("fsdp_version", (Candidate(1),), Origin.DEFAULT, "fsdp_version", "library", "accelerate"))
        draft.take(common_facts(options, "fsdp_config.fsdp_"))
        draft.take(file_facts(options, "fsdp_config.fsdp_"))
        name, key = "activation_checkpointing", "fsdp_activation_checkpointing"
        off = options.entry("activation_checkpointing")  # off is written or the default: the trainer's holds
        said = () if off is None or off.key_place is None else (off.key_place,)
        draft.put(Fact(name, (Candidate(False),), Origin.DEFAULT, key, "library", "accelerate", also=said))
    sizes = _part(table, "parallelism_config")
    draft.take(degrees(lambda name: sizes.get(f"{_MESH}{name}") or sizes.get(name), f"parallelism_config.{_MESH}"))
    if kind == "MEGATRON_LM":
        draft.take(_rows(table, "megatron_lm_config"))
    _compiled(draft, table)
    draft.take(accelerate_key_remarks(table, kind))
    facts = tuple(
        [replace(fact, via="config-file") if fact.via == "literal" else fact for fact in draft.facts.values()]
    )
    return Sheet(path, KIND, facts, tuple(draft.links), tuple(draft.remarks), tuple(draft.tables))


def _rows(table: Table, section: str) -> Iterator[Drawn]:
    """What the keys of one section say."""
    for row in all_rows(KIND):
        value = table.get(*row.key.split(".")) if row.key.startswith(f"{section}.") else None
        if value is not None:
            yield draw(row.fact, value, ACCELERATE_CONVERTERS[row.converter], row.key)


def _part(table: Table, key: str) -> Table:
    part = table.get(key)
    return part if isinstance(part, Table) else Table(())


def _strategy(draft: Draft, table: Table, kind: str) -> None:
    value = table.get("distributed_type")
    if value is None:
        return

    draft.put(draw("launcher", value, _back_end, "distributed_type"))
    if kind and kind not in STRATEGIES:
        draft.put(unknown("parallelism", f"distributed_type is {kind}, which is not simulated", place=value.place))
    else:
        draft.put(draw("parallelism", value, strategy, "distributed_type"))


def _back_end(value: Value) -> Converted:
    word = word_of(value)
    return "no" if isinstance(value, Scalar) and value.value is False else word.lower() if word else Outcome.ABSENT


def _processes(draft: Draft, table: Table, kind: str) -> None:
    world = _number(table, "num_processes", "world_size")
    nodes = _number(table, "num_machines", "nodes")
    if not isinstance(nodes, Fact):
        nodes = Fact("nodes", (Candidate(1),), Origin.DEFAULT, "num_machines", "library", "accelerate")
    chosen = draft.facts.get("parallelism")
    if chosen is not None and chosen.value == "none" and not (isinstance(world, Fact) and world.value == 1):
        reason = "distributed_type NO starts one process, whatever num_processes says"
        world = Fact("world_size", (Candidate(1, chosen.place),), Origin.DERIVED, "distributed_type", reason=reason)
    if isinstance(world, Fact):
        draft.put(world)
        draft.put(divided("gpus_per_node", world, nodes))
    if world is not None or "num_machines" in {entry.key for entry in table}:
        draft.put(nodes)


def _number(table: Table, key: str, fact: str) -> Drawn:
    value = table.get(key)
    if value is None or (isinstance(value, Scalar) and value.value in (None, -1, "-1")):
        return None  # left to the command line
    return draw(fact, value, processes, key)


def _precision(draft: Draft, value: Value | None) -> None:
    if value is None or (isinstance(value, Scalar) and value.value is None):
        return

    for name in ("bf16", "fp16", "fp8"):
        draft.put(draw(name, value, precision(name), "mixed_precision"))


def _deepspeed(draft: Draft, table: Table) -> None:
    options = _part(table, "deepspeed_config")
    file = options.get("deepspeed_config_file")
    target = word_of(file)
    if target is not None and target != "none":
        draft.links.append(Link("deepspeed", target, file.place if file else None))
        return
    draft.take(_rows(table, "deepspeed_config"))
    for fact, default in (("zero_stage", _STAGE), ("offload_optimizer", "none"), ("offload_parameters", "none")):
        draft.put(Fact(fact, (Candidate(default),), Origin.DEFAULT, "deepspeed_config", "library", "accelerate"))
    draft.tables.append(("deepspeed", built(options)))


_PATHS = (
    ("gradient_accumulation_steps", ("gradient_accumulation_steps",)),
    ("gradient_clipping", ("gradient_clipping",)),
    ("zero_stage", ("zero_optimization", "stage")),
    ("offload_optimizer_device", ("zero_optimization", "offload_optimizer", "device")),
    ("offload_param_device", ("zero_optimization", "offload_param", "device")),
)


def built(options: Table) -> Table:
    """The DeepSpeed configuration that accelerate builds from its own keys (DeepSpeedPlugin.__post_init__)."""
    whole_table = Table((Entry("zero_optimization", None, Table((Entry("stage", None, Scalar(_STAGE)),))),))
    for key, path in _PATHS:
        entry = options.entry(key)
        if entry is None:
            continue
        value: Value = entry.value
        for name in reversed(path):
            value = Table((Entry(name, entry.key_place, value),))
        whole_table = overlaid(whole_table, value) if isinstance(value, Table) else whole_table
    return whole_table


def _compiled(draft: Draft, table: Table) -> None:
    value = table.get("dynamo_config", "dynamo_backend") or table.get("dynamo_backend")
    if value is not None and str(word_of(value) or "no").upper() not in ("NO", "NONE"):
        draft.put(draw("torch_compile", value, compiles, "dynamo_backend"))
