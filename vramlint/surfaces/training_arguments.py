"""TrainingArguments as a flat JSON or YAML file, also with TRL and model keys beside them (`TrlParser` recipes)."""

from __future__ import annotations

import re

from vramlint.facts import Candidate, Fact, Link, Origin, Remark, Sheet
from vramlint.surfaces.flat import stated_by
from vramlint.values import Scalar, Table

_VOCABULARIES = ("training-arguments", "trl", "trl-model")


def training_arguments_sheet(path: str, table: Table, kind: str) -> Sheet:
    """The facts of a flat file of TrainingArguments.

    Args:
        path: the file.
        table: its root.
        kind: training-args-json or training-args-yaml; in YAML, numbers in quotes count as numbers, because
            the parsers that take YAML hand the values to argparse.
    """
    facts: dict[str, Fact] = {}
    remarks: list[Remark] = []
    quoted = kind.endswith("yaml")
    for vocabulary in _VOCABULARIES:
        for stated in stated_by(table, vocabulary, quoted_numbers=quoted):
            if isinstance(stated, Remark):
                remarks.append(stated)
            else:
                facts.setdefault(stated.name, stated)
    facts["run_kind"] = _fixed("run_kind", "training")
    objective = _objective(path, table)
    if objective:
        facts["objective"] = _fixed("objective", objective)
    links, tables = _deepspeed(table)
    tables += ((_CLASSES.get(objective, "training-arguments"), table),)
    return Sheet(path, kind, tuple(facts.values()), links, tuple(remarks), tables)


def _fixed(name: str, value: str) -> Fact:
    reason = "the file holds TrainingArguments"
    return Fact(name, (Candidate(value),), Origin.DERIVED, via="code", reason=reason)


_OBJECTIVES = (
    ("num_generations", "grpo"),
    ("max_completion_length", "grpo"),
    ("beta", "dpo"),
    ("max_prompt_length", "dpo"),
    ("packing", "sft"),
    ("max_seq_length", "sft"),
)
"""Keys of a recipe that belong to one trainer of TRL, the more telling first."""


_PREFERENCES = ("orpo", "kto", "cpo")
"""Objectives with the keys of DPO, which only the folder's or file's name tells from it."""

_CLASSES = {
    "sft": "SFTConfig",
    "dpo": "DPOConfig",
    "orpo": "ORPOConfig",
    "kto": "KTOConfig",
    "cpo": "CPOConfig",
    "grpo": "GRPOConfig",
}
"""The class of TRL that a recipe is parsed with, by objective."""


def _objective(path: str, table: Table) -> str:
    found = next((objective for key, objective in _OBJECTIVES if table.entry(key)), "")
    if found != "dpo":
        return found
    named = re.split(r"[^a-z]+", path.lower())
    return next((objective for objective in _PREFERENCES if objective in named), found)


def _deepspeed(table: Table) -> tuple[tuple[Link, ...], tuple[tuple[str, Table], ...]]:
    value = table.get("deepspeed")
    match value:
        case Scalar(value=str() as target) if target:
            return (Link("deepspeed", target, value.place),), ()
        case Table():
            return (), (("deepspeed", value),)
        case _:
            return (), ()
