"""Run Megatron-LM's own report of theoretical memory on the cases of megatron_report.toml and write a row for each.

    python -m bench.sharding.megatron_report --megatron CHECKOUT [--out FILE]

CHECKOUT is a clone of NVIDIA/Megatron-LM; of it megatron/training/theoretical_memory_usage.py runs, with stand-ins for
the two functions that it imports, so torch need not be there.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).resolve().parent
CASES = HERE / "megatron_report.toml"
OUT = HERE.parent / "data" / "megatron_reports.jsonl"
REPORT = Path("megatron/training/theoretical_memory_usage.py")
MIB = 1 << 20
ABSENT = (
    "num_experts",
    "moe_ffn_hidden_size",
    "moe_shared_expert_intermediate_size",
    "moe_latent_size",
    "mtp_num_layers",
    "virtual_pipeline_model_parallel_size",
)
"""Arguments that are None unless a case says otherwise."""

Row = dict[str, Any]
Report = Callable[..., tuple[float, float, float]]


def read_cases() -> list[Row]:
    """Every case: id and arguments."""
    table = tomllib.loads(CASES.read_text(encoding="utf-8"))
    return [{"id": name, "args": {**table["defaults"], **case}} for name, case in table["cases"].items()]


def report_of(checkout: Path) -> Report:
    """Megatron's function, out of its own file."""
    package = ModuleType("megatron_training")
    package.__path__ = []
    utilities = ModuleType("megatron_training.utils")
    vars(utilities).update(is_hybrid_model=lambda _: False, print_rank_0=lambda _: None)
    sys.modules.update({"megatron_training": package, "megatron_training.utils": utilities})
    module = ModuleType("megatron_training.theoretical_memory_usage")
    module.__package__ = "megatron_training"
    exec(compile((checkout / REPORT).read_text(encoding="utf-8"), str(REPORT), "exec"), vars(module))  # noqa: S102
    found: Report = vars(module)["report_theoretical_memory"]
    return found


def arguments_of(wanted: Row) -> SimpleNamespace:
    """The arguments as Megatron completes them (megatron/training/arguments.py)."""
    sharing = wanted["tensor_model_parallel_size"] * wanted["pipeline_model_parallel_size"]
    derived = {
        "group_query_attention": wanted["num_query_groups"] != wanted["num_attention_heads"],
        "data_parallel_size": wanted["world_size"] // sharing,
        "expert_tensor_parallel_size": wanted["tensor_model_parallel_size"],
        "recompute_granularity": "selective" if wanted["sequence_parallel"] else None,
        "multi_latent_attention": False,
        "moe_layer_freq": 1,
    }
    return SimpleNamespace(**{**dict.fromkeys(ABSENT), **derived, **wanted})


def main() -> int:
    """Write the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megatron", type=Path, required=True, help="checkout of NVIDIA/Megatron-LM")
    parser.add_argument("--out", type=Path, default=OUT, help="file of rows")
    arguments = parser.parse_args()
    report = report_of(arguments.megatron)
    git = ["git", "-C", str(arguments.megatron), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    rows = []
    for case in read_cases():
        with contextlib.redirect_stdout(io.StringIO()):
            states, activations, _ = report(arguments_of(case["args"]), case["args"]["num_microbatches"])
        result = {"weights_and_optimizer": round(states * MIB), "activations": round(activations * MIB)}
        rows.append({**case, "commit": commit, "result": result})
    arguments.out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
