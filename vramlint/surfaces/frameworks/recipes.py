"""A recipe's defaults below what a configuration says itself."""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.surfaces.launch.options import nested
from vramlint.surfaces.overlay import overlaid
from vramlint.values import Entry, Items, Scalar, Table, Value

VIA = "library"
"""The road of a value that a recipe gives."""


def on_recipe(table: Table, defaults: Mapping[str, object]) -> Table:
    """A configuration on top of the dotted defaults of its recipe, which no file writes."""
    base = Table((), table.place)
    for key, value in defaults.items():
        base = overlaid(base, nested(key, None, _value(value)))
    return overlaid(base, table) if defaults else table


def _value(value: object) -> Value:
    if isinstance(value, list):
        return Items(tuple(map(_value, value)))
    return Scalar(value if isinstance(value, str | int | float | bool) else None, None, VIA)


def renested(table: Table) -> Table:
    """Keys with dots as tables, at every depth: `train.micro_batch_size` as `train: {micro_batch_size: …}`."""
    made = Table((), table.place)
    for entry in table:
        value = renested(entry.value) if isinstance(entry.value, Table) else entry.value
        made = overlaid(made, nested(entry.key, entry.key_place, value) if "." in entry.key else _one(entry, value))
    return made


def _one(entry: Entry, value: Value) -> Table:
    return Table((Entry(entry.key, entry.key_place, value),))
