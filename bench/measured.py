"""Rows of bench/gpu against their predictions: what a GPU's counters said of a step, phase by phase.

torch's counter of allocated memory counts blocks, and a block is up to 1 MiB larger than what was asked for; the
prediction counts requests, rounded to 512 bytes. `requested`, torch's counter of the requests alone, is the one that
tells whether the simulator follows every tensor.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from bench.cases import job_of
from bench.gpu.record import DONE, OUT_OF_MEMORY, Row
from vramlint.estimate import Estimate, PhasePeak
from vramlint.job import Job
from vramlint.memory import simulate

STEP = ("forward", "backward", "optimizer")
LOADING, EVALUATION = "loading", "evaluation"


@dataclass(frozen=True, slots=True)
class Measured:
    """One row. Errors are (predicted - measured) / measured, by what they are of."""

    id: str
    family: str
    gpu: str
    outcome: str
    errors: Mapping[str, float]
    phase_right: bool = False
    states_exact: bool = False
    verdict_right: bool | None = None
    """Whether the check would have said of a run that fitted that it fits, and of one that did not that it does not."""


def is_measured(row: Row) -> bool:
    """Whether a row comes from a GPU, be it as a failure."""
    return "outcome" in row


def measured_job(row: Row) -> Job:
    """The job of a row, without an evaluation that was not measured: it is not to be the predicted peak."""
    job = job_of(row)
    return job if EVALUATION in row.get("result", {}) or row["outcome"] != DONE else replace(job, evaluation=None)


def compare(row: Row, *, reserved: bool = True) -> Measured:
    """One row against its estimate; a row that was not measured has no errors."""
    outcome = row["outcome"]
    family, gpu = row["config"].get("model_type", "?"), row["gpu"]["name"]
    if outcome not in {DONE, OUT_OF_MEMORY}:
        return Measured(row["id"], family, gpu, outcome, {})
    job = measured_job(row)
    estimate = simulate(job, reserved=reserved)
    if estimate.method != "simulated":
        return Measured(row["id"], family, gpu, "not simulated", {})
    usable = row["gpu"].get("memory") or (job.gpu.usable_bytes if job.gpu else 0)
    right = None if not usable else (estimate.device <= usable) == (outcome == DONE)
    if outcome == OUT_OF_MEMORY:
        return Measured(row["id"], family, gpu, outcome, {}, verdict_right=right)
    result = row["result"]
    states = (estimate.parameters, estimate.gradients, estimate.optimizer_states)
    counted = tuple(sum(result[key].values()) for key in ("parameter_bytes", "grad_bytes", "optimizer_state_bytes"))
    return Measured(
        row["id"],
        family,
        gpu,
        outcome,
        errors_of(row, estimate, reserved=reserved),
        phase_right=estimate.peak_phase == highest(row, "requested")[0],
        states_exact=states == counted,
        verdict_right=right,
    )


def errors_of(row: Row, estimate: Estimate, *, reserved: bool) -> dict[str, float]:
    """The errors of a measured row by name: run, first step, phases (`forward`, …), what is outside the allocator.

    First step and phases are compared by what was requested. What is reserved only grows, so that after the first step
    every phase has the run's peak; of loading, which comes first, it is compared by itself.
    """
    result = row["result"]
    steady = result["steady_step"]
    phases = {phase.phase: phase for phase in estimate.phases}
    first = max(phase.allocated for phase in estimate.first_step)
    pairs: dict[str, tuple[int, int | None]] = {
        "allocated": (estimate.blocks or estimate.allocated, highest(row, "allocated")[1]),
        "requested": (estimate.allocated, highest(row, "requested")[1]),
        "first step": (first, result["first_step"]["peak_requested"]),
        "saved activations": (estimate.saved_activations, steady["saved_activations"]),
        "outside": (estimate.outside, _outside(row)),
    }
    for name in _phases(row):
        if name == LOADING:
            phases[name] = loaded(row)
        if name in phases:
            pairs[name] = (phases[name].allocated, counters(row, name)["requested"])
            if reserved and name == LOADING:
                pairs[f"{name} reserved"] = (phases[name].reserved, counters(row, name)["reserved"])
    if reserved:
        pairs["reserved"] = (estimate.reserved, highest(row, "reserved")[1])
    return {name: (ours - theirs) / theirs for name, (ours, theirs) in pairs.items() if theirs}


def loaded(row: Row) -> PhasePeak:
    """What is predicted of from_pretrained alone: the bench prepares the model and adds adapters after its loading."""
    job = job_of(row)
    quantization = replace(job.quantization, prepared_for_kbit=False) if job.quantization else None
    phases = simulate(replace(job, adapter=None, quantization=quantization)).phases
    return next(phase for phase in phases if phase.phase == LOADING)


def counters(row: Row, phase: str) -> Mapping[str, int]:
    """The peaks of a phase in the steady state, by counter."""
    result = row["result"]
    if phase not in STEP:
        found: Mapping[str, int] = result[phase]
        return found
    steady = result["steady_step"]
    return {"allocated": steady[f"{phase}_peak"], **{name: steady[name][phase] for name in ("requested", "reserved")}}


def _outside(row: Row) -> int | None:
    """What the driver counts beyond torch's segments in the steady state; None of rows that shared the GPU."""
    steady = row["result"]["steady_step"]
    if not row["result"].get("context") or "device" not in steady:
        return None
    return max(int(steady["device"][phase]) - int(steady["reserved"][phase]) for phase in STEP)


def highest(row: Row, counter: str) -> tuple[str, int]:
    """The phase with the highest peak of a counter among those that are predicted, and that peak."""
    return max(((name, counters(row, name)[counter]) for name in _phases(row)), key=lambda found: found[1])


def _phases(row: Row) -> tuple[str, ...]:
    """The predicted phases of a row: loading counts where the model was loaded, which is where it is quantized."""
    loaded = (LOADING,) if row["case"].get("quant") else ()
    evaluated = (EVALUATION,) if EVALUATION in row["result"] else ()
    return (*loaded, *STEP, *evaluated)


def report_of(found: Sequence[Measured]) -> dict[str, Any]:
    """The figures by GPU."""
    by_gpu: defaultdict[str, list[Measured]] = defaultdict(list)
    for one in found:
        by_gpu[one.gpu].append(one)
    return {gpu: figures(group) for gpu, group in sorted(by_gpu.items())}


def figures(found: Sequence[Measured]) -> dict[str, Any]:
    """Outcomes, and of each error: how many, median, largest, and the largest underestimate."""
    done = [one for one in found if one.outcome == DONE]
    judged = [one.verdict_right for one in found if one.verdict_right is not None]
    names = list(dict.fromkeys(name for one in done for name in one.errors))
    report: dict[str, Any] = {
        "n": len(done),
        "outcomes": dict(Counter(one.outcome for one in found)),
        "errors": {name: _spread([one.errors[name] for one in done if name in one.errors]) for name in names},
    }
    if done:
        report["phase_right"] = sum(one.phase_right for one in done) / len(done)
        report["states_exact"] = sum(one.states_exact for one in done) / len(done)
    if judged:
        report["verdict_right"] = sum(judged) / len(judged)
    return report


def _spread(errors: Sequence[float]) -> dict[str, float]:
    sizes = [abs(error) for error in errors]
    return {
        "n": len(errors),
        "median_error": statistics.median(sizes),
        "max_error": max(sizes),
        "worst_under": max(0.0, -min(errors)),
    }


def show(report: Mapping[str, Any]) -> None:
    """Print the tables."""
    for gpu, found in report.items():
        outcomes = ", ".join(f"{name} {count}" for name, count in found["outcomes"].items())
        rights = [
            f"{name.replace('_', ' ')} {found[name]:.1%}"
            for name in ("phase_right", "states_exact", "verdict_right")
            if name in found
        ]
        print(f"\n{gpu}: {'; '.join([outcomes, *rights])}")
        if found["errors"]:
            print(f"{'':<22}{'n':>6}{'median':>12}{'max':>12}{'under':>12}")
        for name, error in found["errors"].items():
            columns = "".join(f"{error[key]:>12.4%}" for key in ("median_error", "max_error", "worst_under"))
            print(f"{name:<22}{error['n']:>6}{columns}")
