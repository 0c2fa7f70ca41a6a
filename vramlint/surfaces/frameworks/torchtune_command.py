"""torchtune's command line over its files, and the files it ships (torchtune 0.7 config/_utils.py, _cli/run.py)."""

from __future__ import annotations

from msgspec.structs import replace

from vramlint.catalog.torchtune import packaged
from vramlint.surfaces.frameworks.interpolation import interpolated
from vramlint.surfaces.launch.options import nested
from vramlint.surfaces.overlay import overlaid
from vramlint.values import Entry, Items, Scalar, Table, Value

COMPONENT = "_component_"
"""The key whose value is the Python path of what a table makes."""
_PACKAGED = "vramlint:packaged"
"""Key under which a packaged configuration's table holds its name."""


def prepared(table: Table) -> Table:
    """Interpolations resolved, as OmegaConf does when a key is read; the asynchronous recipe's `training` at the root.

    recipes/dev/async_grpo_full_finetune_distributed.py hands that table alone to the workers that train.
    """
    table = interpolated(table)
    inner = table.get("training")
    if not isinstance(inner, Table) or table.entry("orchestration") is None:
        return table
    lifted = [replace(entry, key_place=None) for entry in inner if table.entry(entry.key) is None]
    return replace(table, entries=(*table.entries, *lifted))


def overlay(base: Table, top: Table) -> Table:
    """The command line over the file: `model=torchtune.models.…` names that table's component (config/_utils.py)."""
    entries = [_as_component(entry) if isinstance(base.get(entry.key, COMPONENT), Scalar) else entry for entry in top]
    return overlaid(base, replace(top, entries=tuple(entries)))


def _as_component(entry: Entry) -> Entry:
    if not isinstance(entry.value, Scalar):
        return entry
    return replace(entry, value=nested(COMPONENT, entry.key_place, entry.value))


def recipes_of(path: str) -> tuple[str, ...]:
    """The recipes of the packaged configuration that a file is a copy of, by its name and its folder's."""
    parts = path.removesuffix(".yaml").replace("\\", "/").split("/")
    found = packaged().get("/".join(parts[-2:]))
    return found.recipes if found is not None else ()


def shipped(name: str) -> Table | None:
    """What the packaged configuration of a name says; None if there is none of that name."""
    found = packaged().get(name.removesuffix(".yaml"))
    if found is None:
        return None
    table = nested(_PACKAGED, None, Scalar(found.name, None, "library"))
    for key, value in found.said.items():
        if isinstance(value, list):
            given: Value = Items(tuple([Scalar(item, None, "library") for item in value]))
        else:
            given = Scalar(value, None, "library")
        table = overlaid(table, nested(key, None, given))
    return table
