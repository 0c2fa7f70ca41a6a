"""`explain --timeline`: a step as a trace that Perfetto (ui.perfetto.dev) and chrome://tracing open.

The form is the Trace Event Format: counters of the bytes alive by component, slices for phases and layers, and a mark
at the peak that names its largest tensors. Time is the order of events, a microsecond each, not seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from vramlint.estimate import Estimate, Log, Stretch
from vramlint.findings import JobReport

Event = dict[str, Any]
PHASES, LAYERS = 1, 2
"""Threads of the trace."""
WHOLE_REPETITIONS = 4
"""Repeated layers are drawn event by event this often at both ends; those between by their highest and last point."""


def render(jobs: tuple[JobReport, ...]) -> str:
    """One trace with a process for each job; jobs without a simulated step are left out."""
    events: list[Event] = []
    for number, job in enumerate(jobs, 1):
        if job.high is not None and job.high.log is not None:
            events += _process(number, job.name, job.high, job.high.log)
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}, ensure_ascii=False) + "\n"


def _process(pid: int, name: str, estimate: Estimate, log: Log) -> Iterator[Event]:
    yield _meta(pid, "process_name", name)
    yield _meta(pid, "thread_name", "phases", PHASES)
    yield _meta(pid, "thread_name", "layers", LAYERS)
    alive = {amount.name: amount.bytes for amount in log.resident}
    for component, size in alive.items():
        yield _counter(pid, 0, component, size)
    clock, phase_since, phase = 0, 0, log.stretches[0].phase if log.stretches else ""
    top, top_at = 0, 0
    for stretch in log.stretches:
        if stretch.phase != phase:
            yield _slice(pid, PHASES, phase, phase_since, clock)
            phase, phase_since = stretch.phase, clock
        for number in range(stretch.repeat):
            since = clock
            whole = number < WHOLE_REPETITIONS or number >= stretch.repeat - WHOLE_REPETITIONS
            for point in _points(log, stretch, alive, whole=whole):
                clock += point.after
                yield _counter(pid, clock, point.component, point.bytes)
                yield _counter(pid, clock, "total", point.total)
                if point.total > top:
                    top, top_at = point.total, clock
            if stretch.layers and clock > since:
                yield _slice(pid, LAYERS, _layer_name(stretch, number), since, clock)
    yield _slice(pid, PHASES, phase, phase_since, clock)
    yield {
        "name": "peak",
        "ph": "i",
        "s": "p",
        "ts": top_at,
        "pid": pid,
        "tid": PHASES,
        "args": {
            "allocated bytes": estimate.allocated,
            "phase": estimate.peak_phase,
            "largest tensors": {amount.name: amount.bytes for amount in estimate.tensors},
        },
    }


class _Point(Struct, frozen=True):
    """A component's bytes after some events."""

    after: int
    component: str
    bytes: int
    total: int


def _points(log: Log, stretch: Stretch, alive: dict[str, int], *, whole: bool) -> Iterator[_Point]:
    """Go through one repetition; `alive` follows. Not `whole`: its highest point and its end alone."""
    total = sum(alive.values())
    changed: list[_Point] = []
    since, highest = 0, total
    for index, count in stretch.events:
        component = log.components[index]
        change = log.sizes[index] * count
        alive[component] = alive.get(component, 0) + change
        total += change
        since += 1
        point = _Point(since, component, alive[component], total)
        if whole:
            yield point
        elif total > highest:
            highest = total
            changed = [point]
        else:
            continue
        since = 0
    if not whole:
        yield from changed
        yield from (_Point(since, name, size, total) for name, size in alive.items())


def _layer_name(stretch: Stretch, repetition: int) -> str:
    """Which layers a repetition runs; a backward runs the last of the repeated ones first."""
    length = len(stretch.layers)
    number = stretch.repeat - 1 - repetition if "backward" in stretch.phase else repetition
    first = stretch.layers[0] + number * length
    return f"layer {first}" if length == 1 else f"layers {first} to {first + length - 1}"


def _meta(pid: int, kind: str, name: str, tid: int = 0) -> Event:
    return {"name": kind, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}


def _counter(pid: int, at: int, name: str, size: int) -> Event:
    return {"name": name, "ph": "C", "ts": at, "pid": pid, "args": {"bytes": size}}


def _slice(pid: int, tid: int, name: str, since: int, until: int) -> Event:
    return {"name": name, "ph": "X", "ts": since, "dur": max(until - since, 1), "pid": pid, "tid": tid}
