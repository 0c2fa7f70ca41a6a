"""Tables of a framework's keys over its releases, read from the history of a git repository."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vramlint.catalog.frameworks import FOLDER
from vramlint.catalog.lines import DATA


class Key(NamedTuple):
    """A key as one release has it."""

    type: str
    default: str = ""
    """As JSON; empty where it is no plain value."""
    note: str = ""


Keys = Mapping[str, Key]


def git(repository: Path, *words: str) -> str:
    """What a git command prints; empty where it fails."""
    ran = subprocess.run(["git", "-C", str(repository), *words], capture_output=True, text=True, check=False)
    return ran.stdout if ran.returncode == 0 else ""


def shown(repository: Path, state: str, path: str) -> str:
    """A file at a tag or commit; empty where it is not there."""
    return git(repository, "show", f"{state}:{path}")


def rows_of(releases: Sequence[tuple[str, Keys]], renamed: Mapping[str, str] | None = None) -> list[tuple[str, ...]]:
    """The rows of a table: one for each stretch of releases in which a key is the same.

    Args:
        releases: each with its keys, the oldest first.
        renamed: what a key that is gone is called now.
    """
    found: list[tuple[str, ...]] = []
    for name in dict.fromkeys(name for _, keys in releases for name in keys):
        since, held = "", None
        for index, (release, keys) in enumerate(releases):
            key = keys.get(name)
            if held is not None and (key is None or key[:2] != held[:2]):
                found.append((name, since, release, "", *held))
                held = None
            if key is not None and held is None:
                since, held = (release if index else ""), key
        if held is not None:
            found.append((name, since, "", "", *held))
    current = {row[0] for row in found if not row[2]}
    names = {row[0] for row in found}
    new = {old: name for old, name in (renamed or {}).items() if name in names and old not in current}
    return [(*row[:3], new.get(row[0], "") if row[2] else "", *row[4:]) for row in found]


def write(name: str, heading: Iterable[str], rows: Iterable[tuple[str, ...]]) -> None:
    """Write `catalog/data/frameworks/<name>.tsv`, sorted by key and release."""
    ordered = sorted(rows, key=lambda row: (row[0], [int(part) for part in row[1].split(".") if part.isdigit()]))
    head = (*heading, "key, since, until, renamed to, type, default (JSON), note")
    lines = [*(f"# {line}" for line in head), *("\t".join(row) for row in ordered)]
    (DATA / FOLDER / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{name}.tsv: {len(ordered)} rows")
