"""Megatron-Core's own training on one rank, over fake tensors and a fake process group (core 0.20, d98e8a6).

    PYTHONPATH=MEGATRON-LM:. python -m bench.sharding.megatron [--only PATTERN …] [--out FILE] [--list]

In an environment with requirements-megatron.txt and g++, and a checkout of Megatron-LM on the path: its arguments, its
model of `--transformer-impl local` modules, its schedules, gradient buffers and optimizer run as they are. Cases are
those of megatron.toml: flags, the ranks (`world`) and the stage of the pipeline whose first rank is followed. Compiled
functions run as they are written: they keep what they would and hold more while they run.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import tomli

from bench.gpu import record
from bench.sharding.__main__ import OUT, succeeds

CASES = Path(__file__).resolve().parent / "megatron.toml"
Row = dict[str, Any]


def read_cases() -> list[Row]:
    """Every case as a row without its result: the flags of the defaults, of the parts that it names, its own."""
    table = tomli.loads(CASES.read_text(encoding="utf-8"))
    return [_row(name, case, table["parts"]) for name, case in table["cases"].items()]


def _row(name: str, case: Row, parts: Row) -> Row:
    flags: Row = {}
    for part in ("base", *case.get("parts", ())):
        flags |= parts[part]
    flags = {key: value for key, value in {**flags, **case.get("flags", {})}.items() if value is not False}
    ranks = {"kind": "megatron", "world": case.get("world", 8), "stage": case.get("stage", 0)}
    return {"id": name, "case": {"flags": flags, "parallelism": ranks}}


def main() -> int:
    """Run what is missing of the table; the number of cases that failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="cases whose ids match")
    parser.add_argument("--out", type=Path, default=OUT, help="file that rows are appended to")
    parser.add_argument("--list", action="store_true", help="print the ids and stop")
    options = parser.parse_args()
    rows = [row for row in read_cases() if any(fnmatchcase(row["id"], one) for one in options.only)]
    if options.list:
        print("\n".join(row["id"] for row in rows))
        return 0
    done = {row["id"] for row in record.rows_of(options.out)} if options.out.exists() else set()
    from bench.sharding.boot import boot

    boot()
    fakes, runs = (importlib.import_module(f"bench.sharding.{name}") for name in ("megatron_fakes", "megatron_runs"))
    fakes.before_import()
    importlib.import_module("gpt_builders")
    importlib.import_module("megatron.training.training")
    return sum(not succeeds(row, options.out, runs.outcome) for row in rows if row["id"] not in done)


if __name__ == "__main__":
    sys.exit(main())
