"""Keys that a framework takes with dashes as well as with underscores."""

from __future__ import annotations

from msgspec.structs import replace

from vramlint.values import Entry, Table


def underscored(table: Table) -> Table:
    """The keys of the root with underscores; of two spellings of one key the later counts."""
    entries: dict[str, Entry] = {}
    for entry in table:
        key = entry.key.replace("-", "_")
        entries.pop(key, None)
        entries[key] = replace(entry, key=key)
    return Table(tuple(entries.values()), table.place)


def as_spelled(table: Table, key: str) -> str:
    """A key as a file spells it, or would: with dashes where most of its keys have some."""
    head, dot, rest = key.partition(".")
    found = next((entry.key for entry in table if entry.key.replace("-", "_") == head), None)
    if found is None:
        dashed = sum("-" in entry.key for entry in table) > sum("_" in entry.key for entry in table)
        found = head.replace("_", "-") if dashed else head
    return f"{found}{dot}{rest}"
