"""Joining an Accelerate configuration into the run that `accelerate launch` starts with it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from vramlint.facts import Fact, Link, Origin, Remark, Sheet, passed_on, seconded
from vramlint.resolve.context import Context, candidates, started_in
from vramlint.resolve.missing import missing
from vramlint.surfaces.accelerate_config import accelerate_sheet
from vramlint.surfaces.overlay import overlaid
from vramlint.values import Table

_STRATEGY = (
    "parallelism",
    "zero_stage",
    "offload_optimizer",
    "offload_parameters",
    "gather_16bit_on_save",
    "fsdp",
    "fsdp_wrap_class",
    "fsdp_state_dict",
    "tensor_parallel",
    "context_parallel",
    "data_parallel_shard",
    "data_parallel_replicate",
    "fsdp_version",
    "fsdp_backward_prefetch",
    "divided_by",
    "sequence_sharing",
)
_BY_ITSELF = ("launcher",)
"""What only a configuration by itself says in words of its own: of a run, `parallelism` has it."""
_MACHINE = ("world_size", "nodes", "gpus_per_node", "gpu")
_FLAGS = ("bf16", "fp16")


class Configuration(Struct, frozen=True):
    """What accelerate is told by its file and, on top of it, by flags and variables."""

    sheet: Sheet
    path: str = ""
    """The file; empty where there is none."""
    remarks: tuple[Remark, ...] = ()


def configuration_of(sheet: Sheet, context: Context) -> Configuration | None:
    """The configuration that a sheet's links and tables name, None where accelerate starts nothing."""
    link = next((link for link in sheet.links if link.kind == "accelerate"), None)
    given = [table for name, table in sheet.tables if name == "accelerate"]
    if link is None and not given:
        return None
    table, path, remarks = _file(sheet, link, context) if link is not None else (Table(()), "", ())
    for top in given:
        table = overlaid(table, top)
    said = accelerate_sheet(path or sheet.path, table)
    inside = (fact for fact in said.facts if fact.place is None or fact.place.path == path)
    named = {fact.name: fact for fact in passed_on(inside, link.place if link is not None else None)}
    said = replace(said, facts=tuple(named.get(fact.name, fact) for fact in said.facts))
    return Configuration(said, path, remarks)


def _file(sheet: Sheet, link: Link, context: Context) -> tuple[Table, str, tuple[Remark, ...]]:
    for path in candidates(sheet.path, link, context, started_in(sheet)):
        document = context.load(path)
        if document is None:
            continue
        if path.lower().endswith(".json"):
            from vramlint.readers.json import read_json as read
        else:
            from vramlint.readers.yaml import read_yaml as read

        reading = read(document)
        remarks = [
            Remark(problem.kind, path, problem.message, problem.place, vocabulary="accelerate")
            for problem in reading.problems
        ]
        return (reading.root if isinstance(reading.root, Table) else Table(())), path, tuple(remarks)
    return Table(()), "", missing(sheet, link, "Accelerate configuration")


def merged(own: Mapping[str, Fact], said: Sheet, *, trainer: bool, shards: bool) -> dict[str, Fact]:
    """The facts of a run with what its launcher's configuration adds.

    Args:
        own: of the script, its arguments and the launcher's flags.
        said: the configuration.
        trainer: the Trainer runs the loop. It sets ACCELERATE_MIXED_PRECISION from its own flags where one is on
            (transformers 5.23 training_args.py), and takes accelerate's otherwise.
        shards: the run names how it shares the model itself, which wins.
    """
    facts = dict(own)
    loop = own.get("loop")
    accelerated = trainer or (loop is not None and loop.value == "accelerate")
    for fact in said.facts:
        if fact.name in _BY_ITSELF:
            continue
        if _holds(fact, own, accelerated=accelerated, trainer=trainer, shards=shards):
            facts[fact.name] = fact
        elif fact.name in own:
            facts[fact.name] = seconded(own[fact.name], fact)
    return facts


def _holds(fact: Fact, own: Mapping[str, Fact], *, accelerated: bool, trainer: bool, shards: bool) -> bool:
    """Whether a fact of the configuration takes the place of the run's own."""
    before = own.get(fact.name)
    if fact.name in _MACHINE:
        return before is None or before.value != fact.value
    if not accelerated:
        return False  # a loop without an Accelerator is only started by it
    if fact.name in _FLAGS:
        return _is_silent(own, trainer=trainer) and (not trainer or fact.value is True)
    if fact.name in _STRATEGY:
        return not shards
    if fact.name == "activation_checkpointing":
        return fact.value is True and not shards and not (before is not None and before.value is True)
    if fact.name == "gradient_accumulation_steps":  # the variable wins over the Accelerator's own argument
        return not trainer and not shards and fact.origin is Origin.WRITTEN
    return before is None and not (trainer and fact.name == "max_grad_norm")


def _is_silent(own: Mapping[str, Fact], *, trainer: bool) -> bool:
    """Whether the run itself says nothing of its precision: a Trainer whose flags are off does not."""
    flags = [own[name] for name in (*_FLAGS, "precision") if name in own]
    if trainer:
        return all(fact.value is False for fact in flags)
    return all(fact.origin is Origin.DERIVED for fact in flags)
