"""How right the simulated peak of one rank is: against steps of real data-parallel engines, counted storage by storage.

    python bench/sharded.py [--cases FILE.jsonl] [--json] [--worst N] [--phases]

`data/sharded.jsonl` holds what torch's DDP and FSDP 1 and 2, and DeepSpeed's ZeRO engines held in runs of
`python -m bench.sharding`, and ranks of Megatron-Core in those of `python -m bench.sharding.megatron`.

Figures are fractions; DeepSpeed's own estimates of model states stand beside its rows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import megatron_reports  # noqa: E402
from bench.accuracy import spread  # noqa: E402  the repository is not installed when benches run from a checkout
from bench.cases import DTYPES, job_of  # noqa: E402
from bench.gpu import record  # noqa: E402
from bench.sharded_megatron import megatron_job  # noqa: E402
from vramlint.estimate import Estimate  # noqa: E402
from vramlint.job import Job, Mesh, Parallelism, SharedSequence, Zero  # noqa: E402
from vramlint.memory import simulate  # noqa: E402

CASES = ROOT / "bench" / "data" / "sharded.jsonl"
Row = dict[str, Any]
PHASES = ("forward", "backward", "optimizer")
STATES = ("parameter_bytes", "master_bytes", "optimizer_state_bytes")
ZERO_WORDS = {
    "stage": "stage",
    "offload": "offload_optimizer",
    "offload_parameters": "offload_parameters",
    "reduce_bucket": "reduce_bucket_size",
    "allgather_bucket": "allgather_bucket_size",
    "prefetch_bucket": "prefetch_bucket_size",
    "persistence_threshold": "parameter_persistence_threshold",
    "max_live": "max_live_parameters",
    "max_reuse": "max_reuse_distance",
    "sub_group": "sub_group_size",
    "overlap_comm": "overlap_comm",
    "accumulation_dtype": "gradient_accumulation_dtype",
    "hpz": "hpz_partition_size",
    "quantized_weights": "quantized_weights",
    "quantized_frozen": "quantized_frozen_weights",
    "quantized_gradients": "quantized_gradients",
    "mics": "mics_shard_size",
}
"""Words of a case to fields of `Zero`; a word that is absent leaves DeepSpeed's default."""


SHARDINGS = {"hybrid": "full", "hybrid-grad-op": "grad-op"}
"""Strategies of FSDP 1 that are others among fewer ranks."""


RINGS = {"": "ring", "ring": "flash-ring", "gather": "flash-gather"}
"""torch's ring, and those of ring-flash-attn."""
CHECKPOINTS_AROUND = (4, 52)
"""The last transformers whose checkpoints run the wrapped layers."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row: prediction against what was counted. Errors are (predicted - counted) / counted."""

    id: str
    group: str
    error: float
    """Of the steady step's peak."""
    first_step_error: float
    phase_right: bool
    states_exact: bool
    """Weights, master weights and optimizer states are equal, device and host together."""
    phases: dict[str, float] = field(default_factory=dict)
    host_error: float | None = None
    """Of the bytes in host memory, where anything is offloaded."""
    states: tuple[int, int] = (0, 0)
    """Predicted and counted bytes of the states on the device."""
    deepspeed_error: float | None = None
    """Of DeepSpeed's own estimate of the model states, which leaves out activations and buffers, against the peak."""


def sharded_job(row: Row) -> Job:
    """The job that a row ran on every rank."""
    if row["case"]["parallelism"]["kind"] == "megatron":
        return megatron_job(row)
    job = job_of(row)
    wanted = row["case"]["parallelism"]
    if wanted.get("checkpoints") == "around":
        job = replace(job, libraries=replace(job.libraries, transformers=CHECKPOINTS_AROUND))
    parallelism = PARALLELISMS[wanted["kind"]](wanted)
    if "sequence" in wanted:
        parallelism = replace(parallelism, sequence=_sequence(wanted))
    return replace(job, parallelism=parallelism)


def _sequence(wanted: Row) -> SharedSequence:
    """Of DeepSpeed's engines `seq` is what a rank has, of FSDP's a whole row."""
    if wanted["kind"] == "deepspeed":
        return SharedSequence(wanted["sequence"], wanted.get("by", "ulysses"), of_rank=True)
    return SharedSequence(wanted["sequence"], RINGS[wanted.get("ring", "")])


def _ddp(wanted: Row) -> Parallelism:
    return Parallelism(wanted["world"], "ddp", bucket_view=wanted.get("bucket_view", False))


def _fsdp(wanted: Row) -> Parallelism:
    sharding = wanted.get("sharding", "full" if wanted.get("reshard_after_forward", True) else "grad-op")
    return Parallelism(
        wanted["world"] // wanted.get("tensor", 1),
        "fsdp",
        rank=wanted.get("rank", 0),
        fsdp_version=int(wanted["kind"][-1]),
        fsdp_wraps_layers=wanted.get("wrap") != "none",
        mesh=Mesh(tensor=wanted["tensor"], form="plan") if "tensor" in wanted else None,
        fsdp_prefetches=wanted.get("prefetch") == "BACKWARD_PRE",
        fsdp_by_layers_alone=wanted.get("plain", False),
        fsdp_reduce_dtype=DTYPES.get(wanted.get("reduce_dtype", "")),
        replicas=wanted.get("replicas", 1),
        fsdp_sharding=SHARDINGS.get(sharding) or sharding,
        fsdp_offload=wanted.get("offload", False),
        sync_each_batch=wanted.get("sync_each_batch", False),
    )


def _deepspeed(wanted: Row) -> Parallelism:
    words = {field: wanted[word] for word, field in ZERO_WORDS.items() if word in wanted}
    if "gradient_accumulation_dtype" in words:
        words["gradient_accumulation_dtype"] = DTYPES[words["gradient_accumulation_dtype"]]
    if words["stage"] == 3:  # deepspeed 0.19.8 runtime/zero/config.py, overlap_comm_valid
        words.setdefault("overlap_comm", True)
    nodes = wanted["world"] // wanted.get("per_node", wanted["world"])
    ranks = wanted.get("tensor", 1)
    mesh = Mesh(tensor=ranks, form="autotp") if ranks > 1 else None
    world, rank = wanted["world"] // ranks, wanted.get("rank", 0)
    return Parallelism(world, "deepspeed", Zero(**words), rank=rank, nodes=nodes, mesh=mesh)


def _plan(wanted: Row) -> Parallelism:
    return Parallelism(wanted["world"] // wanted["tensor"], "none", mesh=Mesh(tensor=wanted["tensor"], form="plan"))


PARALLELISMS = {"plan": _plan, "ddp": _ddp, "fsdp1": _fsdp, "fsdp2": _fsdp, "deepspeed": _deepspeed}


def group_of(row: Row) -> str:
    """The engine, of DeepSpeed with its stage; those that ran in real processes apart."""
    wanted = row["case"]["parallelism"]
    engine = f"zero{wanted['stage']}" if wanted["kind"] == "deepspeed" else str(wanted["kind"])
    engine += "-sequence" if "sequence" in wanted else ""
    return f"gloo-{engine}" if in_one_memory(row) else engine


def in_one_memory(row: Row) -> bool:
    """Whether the row ran on the CPU, where what is offloaded counts with the rest."""
    return bool(row["case"].get("accelerator") == "cpu")


def outcome(row: Row) -> Outcome:
    """One row against its estimate."""
    estimate = simulate(sharded_job(row), reserved=False, observed=True)
    result = row["result"]
    steady, first = result["steady_step"], result["first_step"]
    beside = estimate.host if in_one_memory(row) else 0
    peaks = {phase.phase: phase.allocated + beside for phase in estimate.phases}
    offloads = in_one_memory(row) and row["case"]["parallelism"].get("offload")
    counted = sum(sum(result.get(key, {}).values()) for key in (STATES[:1] if offloads else STATES))
    predicted = estimate.parameters + estimate.optimizer_states
    own = model_states(row)
    return Outcome(
        row["id"],
        group_of(row),
        error=_error(max(peaks[phase] for phase in PHASES), steady["peak"]),
        first_step_error=_error(max(phase.allocated for phase in estimate.first_step) + beside, first["peak"]),
        phase_right=estimate.peak_phase == steady["peak_phase"],
        states_exact=predicted == counted,
        phases={phase: _error(peaks[phase], steady[f"{phase}_peak"]) for phase in PHASES},
        host_error=_host(estimate, result),
        states=(predicted, counted),
        deepspeed_error=_error(own, steady["peak"]) if own else None,
    )


def model_states(row: Row) -> int | None:
    """DeepSpeed's estimate of one GPU's bytes without its safety factor, for stages 2 and 3; None elsewhere.

    estimate_zero2_model_states_mem_needs and estimate_zero3_model_states_mem_needs of deepspeed 0.19.8
    (runtime/zero/stage_1_and_2.py:4017, stage3.py:4016), for which all parameters train.
    """
    wanted, result = row["case"]["parallelism"], row["result"]
    parameters, world = result["parameter_count"], wanted["world"]
    if wanted.get("stage") == 2:
        return int(2 * parameters + (0 if wanted.get("offload") else 18 * parameters / world))
    if wanted.get("stage") != 3:
        return None
    largest = 4 * largest_layer(row)
    if wanted.get("offload"):
        return int(largest + (0 if wanted.get("offload_parameters") else 2 * parameters / world))
    return int(largest + 18 * parameters / world)


def largest_layer(row: Row) -> int:
    """Elements of the largest module's own parameters, of which the estimate for stage 3 asks: embedding or experts."""
    config = row["config"]
    hidden = config.get("hidden_size") or config["n_embd"]
    experts = config.get("num_local_experts", 0) * 3 * config.get("intermediate_size", 0)
    return int(hidden * max(config["vocab_size"], experts))


def _host(estimate: Estimate, result: Row) -> float | None:
    hosted = sum(result["host"]["peak"].values())
    return _error(estimate.host, hosted) if hosted > 1 << 20 else None


def _error(predicted: int, counted: int) -> float:
    return (predicted - counted) / counted


def figures(found: Sequence[Outcome]) -> dict[str, float | int]:
    """The figures of a set of outcomes; `worst_under` is the largest underestimate, 0 if there is none."""
    own = [one.deepspeed_error for one in found if one.deepspeed_error is not None]
    hosts = [one.host_error for one in found if one.host_error is not None]
    return {
        "n": len(found),
        **spread("", [one.error for one in found]),
        "phase_right": sum(one.phase_right for one in found) / len(found),
        "states_exact": sum(one.states_exact for one in found) / len(found),
        **spread("first_step_", [one.first_step_error for one in found]),
        **(spread("host_", hosts) if hosts else {}),
        **(spread("deepspeed_", own) if own else {}),
    }


def beside_megatron(found: Sequence[megatron_reports.Reported]) -> dict[str, float | int]:
    """How far Megatron-LM's own report is off what is simulated: of states, and of activations."""
    return {
        "megatron_n": len(found),
        **spread("megatron_states_", [one.states_error for one in found]),
        **spread("megatron_activations_", [one.activations_error for one in found]),
    }


COLUMNS = ("n", "median_error", "p95_error", "max_error", "worst_under", "phase_right", "states_exact")


def _print_beside(report: dict[str, Any], groups: dict[str, dict[str, float | int]]) -> None:
    """Host memory, and DeepSpeed's and Megatron's own estimates."""
    if "host_median_error" in report:
        print(
            "host memory of offloaded runs: median {host_median_error:.2%}, max {host_max_error:.2%}".format(**report)
        )
    for name, row in groups.items():
        if "deepspeed_median_error" in row:
            line = "DeepSpeed's estimate of {}'s model states is off the peak by {:.0%} (median), {:.0%} (most)"
            print(line.format(name, row["deepspeed_median_error"], row["deepspeed_max_error"]))
    line = (
        "Megatron's report of {megatron_n} runs is off the simulated states by {megatron_states_median_error:.3%} "
        "(median), {megatron_states_max_error:.3%} (most), off the activations by "
        "{megatron_activations_median_error:.0%} (median), {megatron_activations_max_error:.0%} (most)"
    )
    print(line.format(**report))


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=Path, default=CASES, help="file of rows")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--worst", type=int, default=0, metavar="N", help="also list the N rows with the largest error")
    parser.add_argument("--phases", action="store_true", help="with --worst: the errors by phase too")
    arguments = parser.parse_args()
    found = [outcome(row) for row in record.rows_of(arguments.cases)]
    groups = {name: figures([one for one in found if one.group == name]) for name in sorted({o.group for o in found})}
    reported = [megatron_reports.reported(row) for row in record.rows_of(megatron_reports.REPORTS)]
    report: dict[str, Any] = {**figures(found), **beside_megatron(reported), "groups": groups}
    if arguments.json:
        print(json.dumps({**report, "rows": [asdict(one) for one in found]}))
        return 0
    print(f"{'group':<12}" + "".join(f"{column.removesuffix('_error'):>14}" for column in COLUMNS))
    for name, row in [("all", report), *groups.items()]:
        print(f"{name:<12}" + "".join(f"{row[c]:>14}" if c == "n" else f"{row[c]:>14.4%}" for c in COLUMNS))
    _print_beside(report, groups)
    for one in sorted(found, key=lambda one: -abs(one.error))[: arguments.worst]:
        parts = "  ".join(f"{phase} {error:+.2%}" for phase, error in one.phases.items()) if arguments.phases else ""
        print(f"{one.error:+.4%}  {one.id:<32} {parts}  states {one.states[0]:,} {one.states[1]:,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
