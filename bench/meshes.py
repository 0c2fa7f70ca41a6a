"""How right the simulated peak of one rank of a device mesh is: against torchtitan's own models, plans and pipelines.

    python bench/meshes.py [--cases FILE.jsonl] [--json]

`data/meshes.jsonl` holds what `python -m bench.sharding.titan` printed. Errors are fractions of the steady step's peak.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.accuracy import spread  # noqa: E402  the repository is not installed when benches run from a checkout
from vramlint.job import (  # noqa: E402
    Batch,
    Checkpointing,
    Job,
    Mesh,
    Model,
    Objective,
    Optimizer,
    Parallelism,
    Precision,
)
from vramlint.memory import mesh_ranks, simulate  # noqa: E402
from vramlint.surfaces.frameworks.torchtitan_models import network, sizes_of  # noqa: E402
from vramlint.surfaces.model_config import config_values  # noqa: E402

CASES = ROOT / "bench" / "data" / "meshes.jsonl"
CHECKPOINTING = {
    "none": Checkpointing(),
    "full": Checkpointing("nonreentrant", stops_early=False),
    "selective": Checkpointing("nonreentrant", selective=True, stops_early=False),
}
VOCABULARY = 128_256


def mesh_job(case: dict[str, Any]) -> Job:
    """The whole run of a case."""
    name = case.get("model", "llama3")
    sizes = sizes_of(name, case["flavor"])
    own = {**(sizes or {}), **case.get("sizes", {})}
    if "experts" in case:
        own["moe_args"] = {**own["moe_args"], **case["experts"]}
    table = network(name, own, case["seq"])
    config = {**config_values(table), "num_hidden_layers": case["layers"]} if table is not None else {}
    if "vocabulary" in case or name == "llama3":
        config["vocab_size"] = case.get("vocabulary", VOCABULARY)
    stages, shards = case.get("pipeline", 1), case.get("shards", 1) * case.get("context", 1)
    mesh = Mesh(
        case.get("tensor", 1),
        case.get("context", 1),
        stages,
        case.get("expert", 1),
        case.get("expert_tensor", 1),
        case.get("loss_parallel", True),
        schedule=case.get("schedule", "1F1B"),
        layers_per_stage=case.get("layers_per_stage"),
        micro_batches=case["batch"] // case.get("micro", 1) if stages > 1 else 1,
    )
    keeps = case.get("reshard", "never" if stages > 1 else "always") == "never"
    return Job(
        Model(f"{name}/{case['flavor']}", str(config.get("model_type", "")), config),
        precision=Precision("float32", "bfloat16" if shards > 1 else None),
        optimizer=Optimizer("adamw_torch_fused"),
        batch=Batch(case["batch"], case["seq"], packing=True),
        checkpointing=CHECKPOINTING[case.get("checkpointing", "none")],
        parallelism=Parallelism(
            shards * case.get("replicas", 1),
            "fsdp" if shards > 1 else "none",
            fsdp_version=2,
            fsdp_reduce_dtype="float32",
            fsdp_sharding="grad-op" if keeps else "full",
            mesh=mesh if mesh_ranks.is_divided(mesh) else None,
            model_shards=mesh.tensor * stages,
            replicas=case.get("replicas", 1),
        ),
        objective=Objective(loop="plain"),
    )


def peak_error(row: dict[str, Any]) -> float:
    """Of the rank that the row is of, (predicted - counted) / counted."""
    whole = mesh_job(row["case"])
    if mesh_ranks.divides(whole):
        whole = list(mesh_ranks.kinds(whole))[row["case"].get("stage", 0)].job
    estimate = simulate(whole, reserved=False, observed=True)
    peaks = {f"{phase.phase}_peak": phase.allocated for phase in estimate.phases}
    counted: float = max(row["mebibytes"].values()) * 2**20
    return (max(peaks[name] for name in row["mebibytes"]) - counted) / counted


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=Path, default=CASES)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = [json.loads(line) for line in given.cases.read_text(encoding="utf-8").splitlines()]
    errors = [peak_error(row) for row in rows]
    figures = {"n": len(errors), **spread("", errors)}
    if given.json:
        print(json.dumps(figures))
        return 0
    for row, error in zip(rows, errors, strict=True):
        print(f"{error:8.2%}  {json.dumps(row['case'])}")
    print(figures)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
