"""`vramlint models [PATTERN]`."""

from __future__ import annotations

import json
import sys
from argparse import Namespace

from vramlint.catalog import ModelRow, find_model, model_names, nearest_models
from vramlint.cli.errors import CLEAN, UsageError
from vramlint.cli.listing import columns, matches

_HEAD = ("id", "architecture", "parameters", "dtype", "checked", "same as")
_RIGHT = frozenset({2})


def run(options: Namespace) -> int:
    """List the models whose id holds the pattern, mirrors and aliases included."""
    names = [name for name in model_names() if matches(options.pattern, (name,))]
    if not names and options.pattern:
        close = nearest_models(options.pattern)
        raise UsageError(f"no model matches {options.pattern!r}" + (f", did you mean {close[0]!r}?" if close else ""))
    rows = [row for name in sorted(names, key=str.lower) if (row := find_model(name))]
    if options.format == "json":
        text = json.dumps({"version": 1, "models": [_object(row) for row in rows]}, indent=2) + "\n"
    else:
        text = columns([_HEAD, *map(_cells, rows)], _RIGHT)
    sys.stdout.write(text)
    return CLEAN


def _cells(row: ModelRow) -> tuple[str, ...]:
    dtype = row.dtype or "?"
    return (
        row.id,
        row.model_type,
        f"{row.parameter_count:,}" if row.parameter_count else "?",
        dtype if row.dtype_status == "stated" else f"{dtype} ({row.dtype_status})",
        row.checked,
        row.same_as,
    )


def _object(row: ModelRow) -> dict[str, object]:
    return {
        "id": row.id,
        "same_as": row.same_as or None,
        "model_type": row.model_type,
        "architecture": row.architecture,
        "parameters": row.parameter_count,
        "dtype": row.dtype,
        "dtype_status": row.dtype_status,
        "quantization": row.quantization or None,
        "checked": row.checked,
        "sources": list(row.sources),
        "note": row.note,
    }
