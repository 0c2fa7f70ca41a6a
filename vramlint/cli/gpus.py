"""`vramlint gpus [PATTERN]`."""

from __future__ import annotations

import json
import sys
from argparse import Namespace

from vramlint.catalog import GpuRow, all_gpus, find_gpu, nearest_gpus
from vramlint.cli.errors import CLEAN, UsageError
from vramlint.cli.listing import columns, matches
from vramlint.job import Gpu

_HEAD = ("id", "name", "memory GiB", "usable GiB", "compute", "bf16", "bandwidth GB/s")
_RIGHT = frozenset({2, 3, 6})
_GIB = 1 << 30


def run(options: Namespace) -> int:
    """List the GPUs whose id, name or alias holds the pattern."""
    rows = [row for row in all_gpus() if matches(options.pattern, (row.id, row.name, *row.aliases))]
    if not rows and options.pattern:
        close = nearest_gpus(options.pattern)
        raise UsageError(f"no GPU matches {options.pattern!r}" + (f", did you mean {close[0]!r}?" if close else ""))
    pairs = [(row, gpu) for row in rows if isinstance(gpu := find_gpu(row.id), Gpu)]
    if options.format == "json":
        text = json.dumps({"version": 1, "gpus": [_object(row, gpu) for row, gpu in pairs]}, indent=2) + "\n"
    else:
        text = columns([_HEAD, *(_cells(row, gpu) for row, gpu in pairs)], _RIGHT)
    sys.stdout.write(text)
    return CLEAN


def _cells(row: GpuRow, gpu: Gpu) -> tuple[str, ...]:
    return (
        row.id,
        row.name,
        f"{gpu.memory_bytes / _GIB:.2f}",
        f"{gpu.usable_bytes / _GIB:.2f}",
        row.compute_capability,
        row.bf16,
        f"{row.bandwidth_gbs:g}" if row.bandwidth_gbs else "",
    )


def _object(row: GpuRow, gpu: Gpu) -> dict[str, object]:
    return {
        "id": row.id,
        "name": row.name,
        "aliases": list(row.aliases),
        "memory_bytes": gpu.memory_bytes,
        "usable_bytes": gpu.usable_bytes,
        "compute_capability": row.compute_capability,
        "bf16": row.bf16,
        "common": row.common,
        "note": row.note,
    }
