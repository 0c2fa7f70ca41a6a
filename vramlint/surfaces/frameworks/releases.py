"""The release for which a configuration was written, by the keys that it uses."""

from __future__ import annotations

from collections.abc import Iterator

from vramlint.catalog.frameworks import FrameworkKey, framework_keys
from vramlint.catalog.versions import Version, version_of
from vramlint.values import Table

_BEFORE: Version = (0,)
"""Before any release whose keys are known: what the first known one removed or changed was otherwise there."""


def implied_release(
    keys: str, table: Table, latest: Version | None = None, inherited: frozenset[str] = frozenset()
) -> Version | None:
    """The newest known release that takes the most of the written keys; None where that is the newest of all.

    Who writes a key that was dropped, and pins no release, runs an older one rather than one that refuses it.

    Args:
        keys: name of the table of keys in the catalog.
        table: the configuration.
        latest: the newest release that it can be of, where something other than its keys tells.
        inherited: keys that it takes over from other libraries: its own rows do not tell when it takes them.
    """
    known = framework_keys(keys)
    written = [rows for path in _paths(table) if path not in inherited and (rows := known.get(path))]
    if latest is None and all(any(row.holds_in(None) for row in rows) for rows in written):
        return None
    ends = {version_of(text) for rows in known.values() for row in rows for text in (row.since, row.until) if text}
    ends.add(_BEFORE)
    releases = [release for release in sorted(ends, reverse=True) if latest is None or release <= latest]
    best = max(releases, key=lambda release: _held(written, release), default=None)
    return None if best is None or (latest is None and best == releases[0]) else best


def _held(written: list[tuple[FrameworkKey, ...]], release: Version) -> int:
    """How many of the keys a release takes; of releases that take as many, `max` keeps the first."""
    return sum(any(row.holds_in(release) for row in rows) for rows in written)


def _paths(table: Table, above: str = "") -> Iterator[str]:
    for entry in table:
        path = f"{above}{entry.key}"
        yield path
        if isinstance(entry.value, Table):
            yield from _paths(entry.value, f"{path}.")
