"""Tables of a framework's keys over its releases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tools.surfaces.source import Keys

COLUMNS = "key, since, until, renamed to, type, default (JSON), note"
Row = tuple[str, ...]


def rows_of(
    releases: Sequence[tuple[str, Keys]], renamed: Mapping[str, str] | None = None, *, types: bool = True
) -> list[Row]:
    """The rows of a table: one for each stretch of releases in which a key is the same.

    Args:
        releases: each with its keys, the oldest first.
        renamed: what a key that is gone is called now.
        types: whether a key of another type is another one; else a stretch has the type of its last release.
    """
    found: list[Row] = []
    for name in dict.fromkeys(name for _, keys in releases for name in keys):
        since, held = "", None
        for index, (release, keys) in enumerate(releases):
            key = keys.get(name)
            if held is not None and (key is None or key.default != held.default or (types and key.type != held.type)):
                found.append((name, since, release, "", *held))
                held = None
            if key is not None and held is None:
                since, held = (release if index else ""), key
            elif key is not None and held is not None:
                held = held._replace(type=key.type)
        if held is not None:
            found.append((name, since, "", "", *held))
    current = {row[0] for row in found if not row[2]}
    names = {row[0] for row in found}
    new = {old: name for old, name in (renamed or {}).items() if name in names and old not in current}
    return [(*row[:3], new.get(row[0], "") if row[2] else "", *row[4:]) for row in found]


def text_of(heading: Iterable[str], rows: Iterable[Row]) -> str:
    """A table under comment lines, its rows in the order of key and release."""
    ordered = sorted(rows, key=lambda row: (row[0], [int(part) for part in row[1].split(".") if part.isdigit()]))
    return lines_of(heading, ("\t".join(row) for row in ordered))


def lines_of(heading: Iterable[str], lines: Iterable[str]) -> str:
    """Lines under comment lines."""
    return "\n".join((*(f"# {line}" for line in heading), *lines)) + "\n"
