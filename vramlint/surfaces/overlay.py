"""Tables on top of others: flags on a file, a command line on its configuration."""

from __future__ import annotations

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
