"""SkyPilot tasks: `resources.accelerators`, `num_nodes`, `run`."""

from __future__ import annotations

from vramlint.facts import Fact
from vramlint.surfaces.jobfiles import hardware
from vramlint.surfaces.jobfiles.budgets import of_sky
from vramlint.surfaces.jobfiles.scripts import Scripts, environment_of
from vramlint.surfaces.launch.launch import Workload
from vramlint.text import Place
from vramlint.values import Entry, Items, Scalar, Table, Value


def workloads(scripts: Scripts, table: Table) -> tuple[Workload, ...]:
    """The task's `run`; `setup` prepares only."""
    resources = table.get("resources")
    budget = of_sky(resources) if isinstance(resources, Table) else ()
    facts = (*_machine(resources), *budget, *hardware.count("nodes", table.get("num_nodes"), "num_nodes"))
    environment = (*environment_of(table.get("envs")), *environment_of(table.get("secrets")), *_own(facts))
    folder = table.get("workdir")
    local = isinstance(folder, Scalar) and isinstance(folder.value, str) and folder.value[:1] not in ("/", "~")
    ran = scripts.shell([table.get("run")], environment, folder if local else None)
    return (Workload(scripts.document.path, "", ran.commands, facts, ran.files),) if ran.commands else ()


def _own(facts: tuple[Fact, ...]) -> tuple[Entry, ...]:
    """Variables that SkyPilot sets."""
    found = {fact.name: fact for fact in facts}
    names = {"SKYPILOT_NUM_GPUS_PER_NODE": "gpus_per_node", "SKYPILOT_NUM_NODES": "nodes"}
    values = [(name, found[fact]) for name, fact in names.items() if fact in found and found[fact].known]
    return tuple(Entry(name, None, Scalar(str(fact.value), fact.place)) for name, fact in values)


def _machine(resources: Value | None) -> tuple[Fact, ...]:
    if not isinstance(resources, Table):
        return ()
    for key in ("any_of", "ordered"):
        several = resources.get(key)
        if isinstance(several, Items):
            shared = tuple(entry for entry in resources if entry.key != key)
            tables = [item for item in several.values if isinstance(item, Table)]
            return hardware.any_of([_machine(Table((*shared, *item.entries))) for item in tables])
    accelerators = resources.entry("accelerators")
    if accelerators is not None and not (isinstance(accelerators.value, Scalar) and accelerators.value.value is None):
        return hardware.any_of([_named(word, place) for word, place in _choices(accelerators.value)])
    return hardware.machine(resources.get("instance_type"), "instance_type")


def _choices(value: Value) -> list[tuple[str, Place | None]]:
    """`A100:8`, `{A100: 8}`, `[A100:8, H100:8]`, `{A100:8, H100:8}`."""
    match value:
        case Scalar():
            return [(str(value.value), value.place)]
        case Items(values=values):
            return [choice for item in values for choice in _choices(item)]
        case Table(entries=entries):
            return [(_pair(entry), entry.key_place) for entry in entries]
        case _:
            return []


def _pair(entry: Entry) -> str:
    number = entry.value.value if isinstance(entry.value, Scalar) else None
    return entry.key if number is None else f"{entry.key}:{number}"


def _named(word: str, place: Place | None) -> tuple[Fact, ...]:
    """One accelerator; without a number it is one."""
    return hardware.named(word if ":" in word else f"{word}:1", place, "accelerators", "sky")
