"""From the spans of a run to the figures of its first and last step, under the names of the traced rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from bench.gpu.meter import Counters, Span

PHASES = {
    "forward": ("forward", "outputs"),
    "backward": ("backward",),
    "optimizer": ("after backward", "clip", "optimizer"),
}
"""Phase of a step, as the simulator names it, to the spans that belong to it."""
EVALUATION = "evaluation"
LOADING = "loading"
COUNTERS = tuple(field.name for field in fields(Counters))


def figures_of_steps(spans: Sequence[Span]) -> dict[str, Any]:
    """`first_step` and `steady_step`, and `loading` and `evaluation` where there were such.

    Raises:
        ValueError: no step was finished.
    """
    steps = sorted({span.step for span in spans if span.phase == "backward"})
    if not steps:
        raise ValueError("no step was finished")
    found: dict[str, Any] = {
        "first_step": figures_of_step([span for span in spans if span.step == steps[0]]),
        "steady_step": figures_of_step([span for span in spans if span.step == steps[-1]]),
    }
    for name in (LOADING, EVALUATION):
        parts = [span for span in spans if span.phase == name]
        if parts:
            found[name] = _highest(parts)
    return found


def figures_of_step(spans: Sequence[Span]) -> dict[str, Any]:
    """One step: where its phases begin and end, the peak of each, and the highest of all.

    `peak_requested` and `peak_reserved` are those of the step; `reserved` and `device` give them by phase.
    """
    forwards = _named(spans, "forward")
    backwards = _named(spans, "backward")
    outputs = _named(spans, "outputs")
    phases = {phase: _highest(_named(spans, *names)) for phase, names in PHASES.items()}
    peaks = {phase: highest["allocated"] for phase, highest in phases.items()}
    peak_phase = max(peaks, key=lambda phase: peaks[phase])
    return {
        "start": forwards[0].start.allocated,
        "forward_peak": peaks["forward"],
        "forward_end_with_outputs": (outputs or backwards)[-1].start.allocated,
        "forward_end": backwards[-1].start.allocated,
        "saved_activations": backwards[-1].start.requested - forwards[-1].start.requested,
        "backward_peak": peaks["backward"],
        "after_backward": backwards[-1].end.allocated,
        "optimizer_peak": peaks["optimizer"],
        "clip_peak": _highest(_named(spans, "after backward", "clip"))["allocated"],
        "step_peak": _highest(_named(spans, "optimizer"))["allocated"],
        "end": _named(spans, "optimizer")[-1].end.allocated,
        "peak": peaks[peak_phase],
        "peak_phase": peak_phase,
        "peak_requested": max(highest["requested"] for highest in phases.values()),
        "peak_reserved": max(highest["reserved"] for highest in phases.values()),
        "requested": {phase: highest["requested"] for phase, highest in phases.items()},
        "reserved": {phase: highest["reserved"] for phase, highest in phases.items()},
        "device": {phase: highest["device"] for phase, highest in phases.items()},
    }


def _named(spans: Sequence[Span], *names: str) -> list[Span]:
    return [span for span in spans if span.phase in names]


def _highest(spans: Sequence[Span]) -> dict[str, int]:
    """The highest of each counter over several spans; zeros over none."""
    figures = [span.figures() for span in spans]
    return {name: max((one[name] for one in figures), default=0) for name in COUNTERS}
