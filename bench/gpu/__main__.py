"""Run training steps on the GPU of this machine, case by case in a fresh process, and record what they took.

    python -m bench.gpu [--limit-seconds N] [--only PATTERN …] [--out FILE] [--again] [--json]
    python -m bench.gpu --dry-run [--gpu NAME]
    python -m bench.gpu --list

A case that is in the file, or among `measured/*.jsonl` of the same GPU, is skipped, so that a run goes on where the one
before it stopped; `--again` repeats those that were not measured.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.gpu.dry import Check, check  # noqa: E402  the repository is not installed when benches run from a checkout
from bench.gpu.process import Start, fork_server, interpreter, run_case  # noqa: E402
from bench.gpu.record import DONE, ERROR, MEASURED, TIMEOUT, append, finished, measured_files  # noqa: E402
from bench.gpu.table import Row, read_cases  # noqa: E402
from bench.measured import highest, measured_job  # noqa: E402
from vramlint.memory import simulate  # noqa: E402

GIB = 1 << 30
FORKED = ("CUDA in forked subprocess", "initialization error", "CUDA driver initialization failed")
"""What torch and CUDA say where the process that was forked had used the GPU (torch 2.13 cuda/__init__.py)."""
EXPECTED_SECONDS = 20.0
"""What a case is taken to need until some have run."""


def gpu_name() -> str | None:
    """The first GPU's name as the driver gives it, None without one."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.splitlines()[0].strip() if said.strip() else None


def file_of(gpu: str) -> Path:
    """Where measurements of a GPU are kept."""
    return MEASURED / f"{re.sub(r'[^a-z0-9]+', '-', gpu.lower()).strip('-')}.jsonl"


def run(rows: Sequence[Row], options: argparse.Namespace, gpu: str) -> Iterator[Row]:
    """Run and record what is not recorded yet, until the time is over."""
    out = options.out or file_of(gpu)
    done = finished([*measured_files(), out], gpu, again=options.again)
    started, took = time.monotonic(), [EXPECTED_SECONDS]
    start: Start = interpreter if options.new_interpreters else fork_server()
    for row in rows:
        if row["id"] in done:
            continue
        left = options.limit_seconds - (time.monotonic() - started)
        if left < sorted(took)[len(took) // 2]:
            return
        began = time.monotonic()
        measured = run_case(row, "cuda", min(options.case_seconds, left), gpu, start=start)
        if measured["outcome"] == ERROR and any(words in measured["error"] for words in FORKED):
            start = interpreter  # something that was imported had touched the GPU
            measured = run_case(row, "cuda", min(options.case_seconds, left), gpu, start=start)
        took.append(time.monotonic() - began)
        if measured["outcome"] == TIMEOUT and took[-1] < options.case_seconds:
            return  # the run was over, not the case too slow: it is left for the next one
        append(out, measured)
        yield measured


def line_of(row: Row) -> str:
    """A measured row beside its prediction."""
    head = f"{row['id']:<30}{row['outcome']:<15}"
    if row["outcome"] != DONE:
        return head + str(row.get("error", ""))[:100]
    estimate = simulate(measured_job(row))
    cells = [
        f"{name} {measured / GIB:7.2f} GiB, predicted {predicted / GIB:7.2f} ({(predicted - measured) / measured:+.2%})"
        for name, measured, predicted in (
            ("allocated", highest(row, "allocated")[1], estimate.allocated),
            ("reserved", highest(row, "reserved")[1], estimate.reserved),
        )
    ]
    return head + "   ".join(cells) + f"   {row['result']['seconds']:.0f} s"


def dry_run(rows: Sequence[Row], options: argparse.Namespace) -> int:
    """Check the cases; 1 if one has a problem."""
    checks: list[Check] = []
    for row in rows:
        found = check(row, options.gpu)
        checks.append(found)
        if not options.json:
            size = "" if found.built is None else "  parameters as built"
            note = "; ".join(found.problems) or ("" if found.fits else "does not fit") or size
            print(f"{found.id:<30}{found.allocated / GIB:9.3f} GiB  {found.peak_phase:<11}{note}", flush=True)
    wrong = [found for found in checks if found.problems]
    if options.json:
        print(json.dumps({"cases": [found.as_json() for found in checks], "wrong": len(wrong)}))
    else:
        print(f"{len(checks)} cases, {len(wrong)} with problems, {sum(not c.fits for c in checks)} do not fit")
    return 1 if wrong else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description="Training steps on a real GPU.")
    parser.add_argument("--only", nargs="+", metavar="PATTERN", default=["*"], help="ids, with * and ?")
    parser.add_argument("--list", action="store_true", help="print the ids")
    parser.add_argument("--dry-run", action="store_true", help="check the cases without a GPU")
    parser.add_argument("--gpu", help="with --dry-run: the device that they have to fit")
    parser.add_argument("--limit-seconds", type=float, default=float("inf"), help="begin no case that would end later")
    parser.add_argument("--case-seconds", type=float, default=120.0, help="a case that takes longer is a timeout")
    parser.add_argument("--out", type=Path, metavar="FILE", help="append there instead of to measured/<gpu>.jsonl")
    parser.add_argument("--again", action="store_true", help="repeat cases that are recorded but not measured")
    parser.add_argument("--new-interpreters", action="store_true", help="start no case as a fork of a warm process")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: try the code, record nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    rows = [row for row in read_cases() if any(fnmatch.fnmatch(row["id"], pattern) for pattern in options.only)]
    if options.list:
        print("\n".join(row["id"] for row in rows))
        return 0
    if options.dry_run:
        return dry_run(rows, options)
    gpu = gpu_name() or ""
    if options.device == "cuda" and not gpu:
        print("no GPU: nvidia-smi names none (--dry-run checks the cases without one)", file=sys.stderr)
        return 2
    found: list[dict[str, Any]] = []
    start = interpreter if options.new_interpreters else fork_server()
    tried = (run_case(row, "cpu", options.case_seconds, "", start=start) for row in rows)
    for row in run(rows, options, gpu) if options.device == "cuda" else tried:
        found.append(row)
        if not options.json:
            print(line_of(row), flush=True)
    if options.json:
        outcomes = Counter(row["outcome"] for row in found)
        print(json.dumps({"outcomes": outcomes, "rows": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
