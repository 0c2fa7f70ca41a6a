"""One published measurement against the estimate for it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from msgspec.structs import replace

from bench.published_operators import operator_of, peak_of
from bench.published_rows import FIRST, Row, Skip, job_of
from bench.published_tables import Figure
from vramlint.estimate import Estimate
from vramlint.job import Job
from vramlint.memory import simulate

MIB = 1 << 20
HEADROOM = 0.95
"""Of the usable memory: above it the check says that the run is close to the limit (`headroom` in the settings)."""
HELD = frozenset({"weights", "buffers", "quantization constants"})
"""What a loaded model consists of."""
TOLERANCE = 0.15
WIDE = 1.25
"""The high end over the low one from which on a range says little."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a row came out."""

    id: str
    group: str
    metric: str
    confidence: str
    skipped: str = ""
    """Why it is not compared; empty for one that is."""
    error: float | None = None
    """(ours - measured) / measured."""
    tolerance: float = TOLERANCE
    verdict: str = ""
    """Of rows that say only whether a run fitted: exceeds, close or fits, as the check has it."""
    happened: str = ""
    """fit or oom."""
    ranged: bool = False
    """Ours is a wide range, so that the error says little."""

    @property
    def exact(self) -> bool:
        """Whether the row gives the peak of allocated memory of a run that it describes fully."""
        return self.metric == "allocated" and self.confidence == "high"

    @property
    def right(self) -> bool:
        """Whether the verdict agrees: only a run that ran out of memory exceeds."""
        return (self.verdict == "exceeds") == (self.happened == "oom")

    @property
    def false_fit(self) -> bool:
        """Whether the check would have been silent about a run that ran out of memory."""
        return self.verdict == "fits" and self.happened == "oom"


def outcome_of(row: Row) -> Outcome:
    """The outcome of one row."""
    known = (str(row["id"]), str(row["group"]), str(row["metric"]), str(row["confidence"]))
    tolerance = float(row.get("tol", TOLERANCE))
    try:
        if "skip" in row:
            raise Skip(row["skip"])
        if row["task"] == "op":
            return Outcome(*known, error=_relative(peak_of(operator_of(row)), row), tolerance=tolerance)
        job = job_of(row)
        if row["metric"] == "verdict":
            return Outcome(*known, verdict=_verdict(job), happened=str(row["verdict"]))
        estimate = simulate(job)
        _followed(job, estimate)
        return Outcome(*known, error=_error(row, _on_card(estimate, job)), tolerance=tolerance)
    except Skip as reason:
        return Outcome(*known, skipped=str(reason))


def _verdict(job: Job) -> str:
    """What the check says of the run on its card. A lower bound that exceeds is enough for a run not simulated."""
    if job.gpu is None:
        raise Skip("the GPU is not said")
    estimate, room = simulate(job), job.gpu.usable_bytes
    if estimate.device_low > room:
        return "exceeds"
    _followed(job, estimate)
    return "close" if estimate.device_high > HEADROOM * room else "fits"


def _followed(job: Job, estimate: Estimate) -> None:
    """Skip what the simulator bounds only, or what another architecture stands in for."""
    if estimate.method != "simulated":
        raise Skip(estimate.why.partition(":")[0])
    if estimate.stand_in:
        raise Skip(f"the architecture {job.model.model_type} is not simulated")


def _on_card(estimate: Estimate, job: Job) -> Estimate:
    """The same of a run that went well: what does not fit on the card is returned by the allocator's retries."""
    if job.gpu is None:
        return estimate
    room = job.gpu.usable_bytes - estimate.outside
    return replace(estimate, reserved=max(estimate.allocated, min(estimate.reserved, room)))


def _error(row: Row, estimate: Estimate) -> float:
    if row["metric"] != "unknown":
        return _relative(_figure(row, estimate), row)
    measured = float(row["value_mib"])
    low, high = row.get("value_mib_range", (measured, measured))
    gpus = _gpus(row)
    if row["task"] == "load":
        loaded = _loaded(estimate)
        bounds = (loaded, loaded + estimate.outside)
    else:
        bounds = (estimate.allocated, estimate.device_high)
    ours = [bound * gpus / MIB for bound in bounds]
    return float(max(0.0, ours[0] - high) + min(0.0, ours[1] - low)) / measured


def _figure(row: Row, estimate: Estimate) -> int:
    """Our figure of the row's metric, bytes."""
    metric = row["metric"]
    if row["task"] == "load":
        return _loaded(estimate)
    if metric in {"allocated", "active"}:
        if FIRST in row.get("seq_note", ""):
            return max(peak.allocated for peak in estimate.first_step)
        return max(estimate.allocated, estimate.blocks)
    return estimate.reserved + (_outside(row, estimate) if metric == "nvidia-smi" else 0)


def _loaded(estimate: Estimate) -> int:
    return sum(amount.bytes for amount in estimate.components if amount.name in HELD)


def _outside(row: Row, estimate: Estimate) -> int:
    """What lies outside of torch; the CUDA context as the row gives it, if it does."""
    stated = re.search(r"CUDA context (\d+) MB", row.get("extra", ""))
    return int(stated[1]) * MIB if stated else estimate.outside


def _relative(ours: int, row: Row) -> float:
    measured = float(row["value_mib"]) * MIB
    return (ours * _gpus(row) - measured) / measured


def _gpus(row: Row) -> int:
    return int(row.get("n_gpus", 1)) if row.get("per") == "sum" else 1


def outcome_of_figure(figure: Figure) -> Outcome:
    """The outcome of one line of a table of measurements beside their configs.

    A run that is itself a range, or whose samples have lengths that nobody knows, is compared as a range: the error is
    the distance between it and what the figure stands for.
    """
    known = (figure.id, figure.group, figure.metric, "medium")
    run = figure.run
    if figure.skipped or run is None or run.low is None or run.high is None:
        return Outcome(*known, skipped=figure.skipped or "no job could be built")
    if figure.verdict:
        return _judged(figure, known, run.low, run.high)
    estimates = (_last(estimate) if figure.last_rank else estimate for estimate in (run.low, run.high))
    low, high = (_bytes_of(figure.metric, estimate) for estimate in estimates)
    ours = (_held(run.low) if figure.bound else low[0], high[1])
    distance = max(0.0, ours[0] - figure.high) + min(0.0, ours[1] - figure.low)
    error = distance / (0.5 * (figure.low + figure.high))
    return Outcome(*known, error=error, ranged=ours[1] > WIDE * ours[0])


def _judged(figure: Figure, known: tuple[str, str, str, str], low: Estimate, high: Estimate) -> Outcome:
    if figure.gpu is None:
        return Outcome(*known, skipped="the GPU is not said")
    room = figure.gpu.usable_bytes
    least = _held(low) + low.outside if figure.bound else low.device_low
    verdict = "exceeds" if least > room else "close" if high.device_high > HEADROOM * room else "fits"
    return Outcome(*known, verdict=verdict, happened=figure.verdict)


def _bytes_of(metric: str, estimate: Estimate) -> tuple[int, int]:
    """Our figure of a metric, bytes; a range where nobody says what was read."""
    match metric:
        case "loading":
            phase = next((phase for phase in estimate.phases if phase.phase == "loading"), None)
            return (phase.reserved, phase.reserved) if phase else (estimate.parameters, estimate.parameters)
        case "allocated" | "active":
            highest = max(estimate.allocated, estimate.blocks)
            return highest, highest
        case "reserved":
            return estimate.reserved, estimate.reserved
    return estimate.allocated, estimate.device_high


def _last(estimate: Estimate) -> Estimate:
    """The estimate with the peak of the pipeline's last rank; its blocks are not played."""
    return replace(estimate, allocated=estimate.ranks[-1].allocated, blocks=0) if estimate.ranks else estimate


def _held(estimate: Estimate) -> int:
    """What a step needs of the shortest samples: weights, gradients and optimizer states."""
    held = sum(amount.bytes for amount in estimate.components if amount.name in HELD)
    return max(held, estimate.parameters) + estimate.gradients + estimate.optimizer_states
