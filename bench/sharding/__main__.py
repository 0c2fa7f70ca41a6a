"""Run the table of cases, each in a process of its own, and append a row for each to bench/data/sharded.jsonl.

    python -m bench.sharding [--only PATTERN …] [--out FILE] [--list]

In an environment with requirements.txt and g++. A case whose row is in the file is not run again.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

from bench.gpu import record
from bench.gpu.table import Row, read_cases

HERE = Path(__file__).resolve().parent
CASES = HERE / "cases.toml"
OUT = HERE.parent / "data" / "sharded.jsonl"


def run_table(about: str, cases: Path, out: Path, program: str) -> int:
    """Run what is missing of a table of cases by the `outcome` of `program`.run; the number of cases that failed."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=about.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="cases whose ids match")
    parser.add_argument("--out", type=Path, default=out, help="file that rows are appended to")
    parser.add_argument("--list", action="store_true", help="print the ids and stop")
    arguments = parser.parse_args()
    done = {row["id"] for row in record.rows_of(arguments.out)} if arguments.out.exists() else set()
    rows = [row for row in read_cases(cases) if any(fnmatchcase(row["id"], one) for one in arguments.only)]
    wanted = [row for row in rows if row["id"] not in done]
    if arguments.list:
        print("\n".join(row["id"] for row in rows))
        return 0
    from bench.sharding.boot import boot

    boot()
    import accelerate  # noqa: F401  once for all cases, which are forked from here
    import peft  # noqa: F401
    import transformers  # noqa: F401

    outcome: Callable[[Row], Row] = importlib.import_module(f"{program}.run").outcome
    return sum(not succeeds(row, arguments.out, outcome) for row in wanted)


def succeeds(row: Row, out: Path, outcome: Callable[[Row], Row]) -> bool:
    """Run one case in a child."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            record.append(out, outcome(row))
            code = 0
        except BaseException as error:
            lines = traceback.format_exc().splitlines()
            where = [line.strip() for line in lines if line.lstrip().startswith("File")]
            print(
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
                *where[-8:],
                sep="\n  ",
                file=sys.stderr,
            )
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    print(f"{row['id']}: {'done' if status == 0 else 'failed'}", file=sys.stderr, flush=True)
    return status == 0


if __name__ == "__main__":
    sys.exit(run_table(__doc__ or "", CASES, OUT, "bench.sharding"))
