"""TrainingArguments as a flat JSON or YAML file, also with TRL and model keys beside them (`TrlParser` recipes)."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from vramlint.facts import Candidate, Fact, Link, Origin, Remark, Sheet
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import draw
from vramlint.surfaces.flat import stated_by
from vramlint.surfaces.recipe_objectives import Told, objective_told, places_of
from vramlint.text import Place
from vramlint.values import Scalar, Table, Value

_VOCABULARIES = ("training-arguments", "trl", "trl-model")


def training_arguments_sheet(path: str, table: Table, kind: str, *, objective: str = "", project: str = "") -> Sheet:
    """The facts of a flat file of TrainingArguments, or of a command line that spells them.

    Args:
        path: the file.
        table: its root.
        kind: training-args-json, training-args-yaml or training-args-cli; in YAML, numbers in quotes count as numbers,
            because the parsers that take YAML hand the values to argparse.
        objective: what is trained, where the command says it; else the keys tell.
        project: whose recipe it is, one of `catalog.frameworks.RECIPES`; empty for plain TrainingArguments.
    """
    facts: dict[str, Fact] = {}
    remarks: list[Remark] = []
    quoted = kind.endswith(("yaml", "cli"))
    command = kind.endswith("cli")
    for vocabulary in _VOCABULARIES:
        for stated in stated_by(table, vocabulary, via="" if command else "config-file", quoted_numbers=quoted):
            if isinstance(stated, Remark):
                remarks.append(stated)
            else:
                facts.setdefault(stated.name, _through_file(stated) if command else stated)
    if not command and "tuning" not in facts and "lora_r" in facts:
        facts |= {fact.name: fact for fact in _own_adapters(table)}
    if not command and "sequence_length" not in facts:
        facts |= {fact.name: fact for fact in _own_length(table)}
    reason = "the command trains" if command else "the file holds TrainingArguments"
    facts["run_kind"] = _fixed("run_kind", "training", reason)
    told = objective_told(path, table, trl=project != "")
    if objective:
        facts["objective"] = replace(_fixed("objective", objective, reason), decided=tuple(places_of(told, table)))
    elif told is not None:
        objective = told.objective
        facts["objective"] = _told(told, tuple(places_of(told, table)), reason)
    if project == "alignment-handbook" and objective == "dpo" and "model" in facts:
        why = "the handbook's scripts/dpo.py loads the model once more for a reference"
        facts["reference_model"] = replace(facts["model"], name="reference_model", origin=Origin.DERIVED, reason=why)
    computed = table.entry("precompute_ref_log_probs")
    if objective == "dpo" and computed is not None and _is_on(computed.value):
        why = "the reference's log probabilities are computed before training"
        none = Fact("reference_model", (Candidate("none", computed.value.place),), Origin.DERIVED, computed.key, "code")
        facts.setdefault("reference_model", replace(none, reason=why))
    (links, tables), sharded = _named(table, "deepspeed"), _named(table, "fsdp", "fsdp_config")
    links, tables = links + sharded[0], tables + sharded[1]
    tables += ((_CLASSES.get(objective, "training-arguments"), table),)
    return Sheet(path, kind, tuple(facts.values()), links, tuple(remarks), tables)


_SWITCHES = ("peft_enabled", "enable_peft", "use_lora", "enable_lora", "lora_enable", "lora_enabled", "lora", "peft")
"""Switches of scripts that take LoRA's sizes by TRL's names and its switch by one of their own."""
_OPTIONS = (("target_modules", "lora_target_modules", "names"), ("modules_to_save", "lora_modules_to_save", "names"))
"""Options of such scripts, which hand them to PEFT's LoraConfig by its own names."""


def _own_adapters(table: Table) -> Iterator[Fact]:
    """Whether a script of the user's own makes adapters, and of what, by the switch that it defines for it."""
    entries = [entry for key in _SWITCHES if (entry := table.entry(key)) is not None]
    for entry in entries[:1]:
        said = draw("tuning", entry.value, CONVERTERS["lora-or-full"], entry.key, entry.key_place)
        if not isinstance(said, Fact):
            return
        yield replace(said, via="config-file")
        if said.value != "lora":
            return
        for key, name, converter in _OPTIONS:
            option = table.entry(key)
            drawn = draw(name, option.value, CONVERTERS[converter], key, option.key_place) if option else None
            if isinstance(drawn, Fact):
                yield replace(drawn, via="config-file")


_OWN_LENGTHS = ("model_max_length", "max_seq_len", "cutoff_len", "block_size")
"""What scripts of the user's own call the bound of a sample, as transformers' examples and their like do."""


def _own_length(table: Table) -> Iterator[Fact]:
    entry = next(filter(None, map(table.entry, _OWN_LENGTHS)), None)
    drawn = draw("sequence_length", entry.value, CONVERTERS["bound"], entry.key, entry.key_place) if entry else None
    if isinstance(drawn, Fact):
        yield replace(drawn, via="config-file")


def _through_file(fact: Fact) -> Fact:
    """What a command line's own configuration file says; its words have a road of their own."""
    return replace(fact, via="config-file") if fact.via == "literal" else fact


def _fixed(name: str, value: str, reason: str) -> Fact:
    return Fact(name, (Candidate(value),), Origin.DERIVED, via="code", reason=reason)


_CLASSES = {
    "sft": "SFTConfig",
    "dpo": "DPOConfig",
    "orpo": "ORPOConfig",
    "kto": "KTOConfig",
    "cpo": "CPOConfig",
    "grpo": "GRPOConfig",
    "reward": "RewardConfig",
    "rloo": "RLOOConfig",
    "bco": "BCOConfig",
    "prm": "PRMConfig",
    "gkd": "GKDConfig",
    "xpo": "XPOConfig",
    "ppo": "PPOConfig",
    "online-dpo": "OnlineDPOConfig",
    "nash-md": "NashMDConfig",
}
"""The class of TRL that a recipe is parsed with, by objective."""


def _is_on(value: Value) -> bool:
    return isinstance(value, Scalar) and value.value is True


def _told(told: Told, places: tuple[Place, ...], reason: str) -> Fact:
    fact = replace(_fixed("objective", told.objective, reason), decided=places)
    return replace(fact, origin=Origin.ASSUMED, reason=told.reason) if told.reason else fact


_Configuration = tuple[tuple[Link, ...], tuple[tuple[str, Table], ...]]


def _named(table: Table, kind: str, key: str = "") -> _Configuration:
    """The file or the table under a key."""
    value = table.get(key or kind)
    match value:
        case Scalar(value=str() as target) if target:
            return (Link(kind, target, value.place),), ()
        case Table():
            return (), ((kind, value),)
        case _:
            return (), ()
