"""What a release's keys say against a table that may hold rows and notes of its own."""

from __future__ import annotations

from tools.surfaces.source import Keys
from vramlint.catalog.frameworks import FrameworkKey
from vramlint.catalog.versions import at_least, version_of


def refreshed(
    table: str, declared: Keys, release: str, elsewhere: tuple[str, ...] = (), *, whole: bool = False
) -> tuple[str, list[str]]:
    """A table after what the code of a release declares, and a line for each drift.

    A key that is new begins with the release, one that is gone ends with it; one whose default changed gets a second
    row. Rows that only notes explain (`name.*`, or without a type in a table that is not `whole`) are left alone.

    Args:
        table: the table's text; empty for a new one.
        declared: the keys.
        release: their release; empty: the newest. Of one that is older than the newest in the table, the lines say
            what the table has wrong of it, and the text is of no use.
        elsewhere: how notes of rows begin that are not from this source.
        whole: every row is from this source.
    """
    comments = [line for line in table.splitlines() if line.startswith("#")]
    rows = [FrameworkKey(*line.split("\t")) for line in table.splitlines() if line and not line.startswith("#")]
    version = version_of(release) or None
    current = {row.key: row for row in rows if row.holds_in(version)}
    lines: list[str] = []
    found: list[FrameworkKey] = []
    for row in rows:
        new = declared.get(row.key)
        explained = row.key.endswith("*") or _apart(row, elsewhere) or not (row.type or whole) or _inside(row, declared)
        if not row.holds_in(version) or explained:
            found.append(row)
        elif new is None:
            lines.append(f"- {row.key}")
            found.append(row._replace(until=release))
        elif new.default != row.default and new.default:
            lines.append(f"~ {row.key}: {row.default or 'nothing'} -> {new.default}")
            found += [row._replace(until=release), row._replace(since=release, default=new.default, type=new.type)]
        else:
            found.append(row)
    for key in sorted(declared.keys() - current.keys()):
        if key.endswith(".*") and any(known.startswith(key[:-1]) for known in current):
            continue  # the rows list what it takes
        new = declared[key]
        lines.append(f"+ {key} {new.type} {new.default}".rstrip())
        found.append(FrameworkKey(key, release if rows else "", "", "", new.type, new.default, new.note))
    ordered = sorted(found, key=lambda row: (row.key, version_of(row.since)))
    return "\n".join((*comments, *("\t".join(row) for row in ordered))) + "\n", lines


def is_older(table: str, release: str) -> bool:
    """Whether a table knows a later release."""
    known = [line.split("\t")[1:3] for line in table.splitlines() if line and not line.startswith("#")]
    version = version_of(release)
    return (
        any(said and not at_least(version, version_of(said)) for pair in known for said in pair) if version else False
    )


def _inside(row: FrameworkKey, declared: Keys) -> bool:
    """Whether a row is of a key in a table that takes any, and that the code does not name."""
    parents = row.key.split(".")[:-1]
    return row.key not in declared and any(
        f"{'.'.join(parents[:end])}.*" in declared for end in range(1, len(parents) + 1)
    )


def _apart(row: FrameworkKey, elsewhere: tuple[str, ...]) -> bool:
    return bool(elsewhere) and row.note.startswith(elsewhere)
