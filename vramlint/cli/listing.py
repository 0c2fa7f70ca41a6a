"""Aligned columns for the listing commands."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase


def columns(rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    """Rows as aligned columns, two spaces apart; the columns in `right` are right-aligned."""
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            f"{cell:>{width}}" if index in right else f"{cell:<{width}}"
            for index, (cell, width) in enumerate(zip(row, wide, strict=True))
        ).rstrip()
        for row in rows
    )
    return "".join(f"{line}\n" for line in lines)


def matches(pattern: str | None, names: Sequence[str]) -> bool:
    """Whether one of the names holds `pattern`, or matches it as a glob, in any case; None matches all."""
    if pattern is None:
        return True
    wanted = pattern.lower()
    glob = any(sign in wanted for sign in "*?[")
    return any(fnmatchcase(name.lower(), wanted) if glob else wanted in name.lower() for name in names)
