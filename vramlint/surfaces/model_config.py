"""A model's config.json."""

from __future__ import annotations

from vramlint.facts import Candidate, Fact, Origin, Sheet
from vramlint.job import ConfigValue
from vramlint.values import Items, Scalar, Table, Value


def model_config_sheet(path: str, table: Table) -> Sheet:
    """The facts of a config.json; the whole table is handed on as `model-config`."""
    facts: list[Fact] = []
    entry = table.entry("model_type")
    if entry and isinstance(entry.value, Scalar) and isinstance(entry.value.value, str):
        candidate = Candidate(entry.value.value, entry.value.place)
        facts.append(Fact("model_type", (candidate,), Origin.WRITTEN, "model_type", "config-file"))
    return Sheet(path, "model-config", tuple(facts), tables=(("model-config", table),))


def config_values(table: Table) -> dict[str, ConfigValue]:
    """A config.json as plain values; what is not known is left out."""
    return {entry.key: _plain(entry.value) for entry in table if isinstance(entry.value, (Scalar, Items, Table))}


def _plain(value: Value) -> ConfigValue:
    match value:
        case Scalar():
            return value.value
        case Items():
            return tuple(_plain(item) for item in value.values)
        case Table():
            return config_values(value)
        case _:
            return None
