"""Tables on top of others, and without some of their keys: flags on a file, a command line on its configuration."""

from __future__ import annotations

from msgspec.structs import replace

from vramlint.values import Entry, Table


def overlaid(base: Table, top: Table) -> Table:
    """A configuration with another one on top of it, such as flags on a file, table by table."""
    entries = {entry.key: entry for entry in base}
    for entry in top:
        below = entries.get(entry.key)
        if below is not None and isinstance(below.value, Table) and isinstance(entry.value, Table):
            entries[entry.key] = Entry(entry.key, entry.key_place, overlaid(below.value, entry.value))
        else:
            entries[entry.key] = entry
    return Table(tuple(entries.values()), base.place or top.place)


def without(table: Table, path: str) -> Table:
    """The table without what stands under a dotted path; itself where there is nothing."""
    head, _, rest = path.partition(".")
    entries = []
    for entry in table:
        if entry.key != head:
            entries.append(entry)
        elif rest:
            inner = entry.value
            entries.append(replace(entry, value=without(inner, rest)) if isinstance(inner, Table) else entry)
    return replace(table, entries=tuple(entries))
