"""Files of measured rows: one JSON object a line, appended whole, the last line of an id counts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]
MEASURED = Path(__file__).resolve().parent / "measured"
DONE, OUT_OF_MEMORY, TIMEOUT, ERROR = "measured", "out-of-memory", "timeout", "error"
"""What becomes of a case."""


def measured_files() -> list[Path]:
    """The files of measurements that the repository holds."""
    return sorted(MEASURED.glob("*.jsonl"))


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Append one line in one write, and wait until it is on the disk.

    A line that an interrupted run left unfinished is closed first, so that it spoils no other.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(row, separators=(",", ":")).encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rows_of(path: Path) -> Iterator[Row]:
    """The rows of one file; a line that was not written to its end is named and left out."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except ValueError:
            print(f"{path}:{number} is not JSON: left out", file=sys.stderr)


def latest(rows: Iterable[Row]) -> dict[tuple[str, str], Row]:
    """Measured rows by GPU and id: a later one replaces an earlier one."""
    return {(row["gpu"]["name"], row["id"]): row for row in rows}


def finished(paths: Iterable[Path], gpu: str, *, again: bool) -> set[str]:
    """Ids that need no run on `gpu`: every recorded one, or with `again` only those that were measured."""
    found = latest(row for path in dict.fromkeys(paths) if path.exists() for row in rows_of(path))
    return {name for (device, name), row in found.items() if device == gpu and (not again or row["outcome"] == DONE)}
