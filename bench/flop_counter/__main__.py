"""Count the table of cases, each in a process of its own, and append a row for each to bench/data/flops.jsonl.

    python -m bench.flop_counter [--only PATTERN …] [--out FILE] [--list]

In an environment with bench/sharding/requirements.txt and g++. A case whose row is in the file is not run again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.sharding.__main__ import run_table

HERE = Path(__file__).resolve().parent


if __name__ == "__main__":
    sys.exit(run_table(__doc__ or "", HERE / "cases.toml", HERE.parent / "data" / "flops.jsonl", "bench.flop_counter"))
