"""Run real engines over real tensors: processes on the CPU that talk through gloo. A row for each rank that differs.

    python -m bench.sharding.gloo [--only PATTERN …] [--out FILE] [--list]

In an environment with requirements.txt. The tables and the file of rows are those of bench.sharding; cases are in
gloo.toml. Everything is in one memory, so what DeepSpeed offloads counts with the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bench.gpu import record
from bench.gpu.table import Row, read_cases

HERE = Path(__file__).resolve().parent
CASES = HERE / "gloo.toml"
OUT = HERE.parent / "data" / "sharded.jsonl"
SECONDS = 900
"""Until a case is given up."""


def main() -> int:
    """Run what is missing; the number of cases that failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.sharding.gloo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="cases whose ids match")
    parser.add_argument("--out", type=Path, default=OUT, help="file that rows are appended to")
    parser.add_argument("--list", action="store_true", help="print the ids and stop")
    parser.add_argument("--rank-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank_of is not None:
        _be_rank(arguments.rank_of)
        return 0
    rows = [row for row in read_cases(CASES) if any(fnmatchcase(row["id"], one) for one in arguments.only)]
    if arguments.list:
        print("\n".join(row["id"] for row in rows))
        return 0
    done = {row["id"] for row in record.rows_of(arguments.out)} if arguments.out.exists() else set()
    return sum(not _succeeds(row, arguments.out) for row in rows if name_of(row, 0) not in done)


def name_of(row: Row, rank: int) -> str:
    """The id of a rank's row."""
    return f"{row['id']}-rank{rank}"


def _succeeds(row: Row, out: Path) -> bool:
    """Run one case in as many processes as it has ranks."""
    world = row["case"]["parallelism"]["world"]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        case = Path(folder) / "case.json"
        case.write_text(json.dumps(row), encoding="utf-8")
        shared = {**os.environ, "WORLD_SIZE": str(world), "MASTER_ADDR": "localhost", "MASTER_PORT": port}
        shared |= {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-m", "bench.sharding.gloo", "--rank-of", str(case)]
        ranks = [
            subprocess.Popen(command, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(world)
        ]
        codes = [process.wait(SECONDS) for process in ranks]
        print(f"{row['id']}: {'failed' if any(codes) else 'done'}", file=sys.stderr, flush=True)
        if any(codes):
            return False
        found = [json.loads(case.with_suffix(f".{rank}").read_text(encoding="utf-8")) for rank in range(world)]
    seen: list[Any] = []
    for rank, one in enumerate(found):
        if one["result"] in seen:
            continue
        seen.append(one["result"])
        parallelism = {**row["case"]["parallelism"], "rank": rank}
        record.append(out, {**one, "id": name_of(row, rank), "case": {**row["case"], "parallelism": parallelism}})
    return True


def _be_rank(case: Path) -> None:
    """One rank's process: its row goes beside the case's file."""
    import torch
    import torch.distributed as dist
    from accelerate import PartialState

    from bench.gpu import build
    from bench.sharding.counting import Storages
    from bench.sharding.run import steps_of, versions

    row = json.loads(case.read_text(encoding="utf-8"))
    rank = int(os.environ["RANK"])
    torch.manual_seed(0)
    dist.init_process_group("gloo")
    PartialState(cpu=True)  # accelerate's logger asks for it
    storages = Storages("cpu")
    storages.follow_resizes()
    storages.calibrate()
    result = steps_of(row, build.config_of(row), storages)
    answer = {**row, "versions": versions(), "result": result}
    case.with_suffix(f".{rank}").write_text(json.dumps(answer), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
