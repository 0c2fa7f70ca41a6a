"""Two states of a project, run by run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from vramlint.api.job_difference import causes
from vramlint.api.simulating import Simulator
from vramlint.comparison import Changed, Comparison, Side
from vramlint.findings import JobReport, Report

LEAST = 1 << 20
"""Bytes of change that are worth a line: 1 MiB."""


def compare(before: Report, after: Report, names: tuple[str, str]) -> Comparison:
    """The runs of two reports, by their names; those of one name in their order.

    Args:
        before: of the state that is changed.
        after: of what it became; with the jobs' own paths, as relative as the first one's.
        names: what the two are called.
    """
    simulator = Simulator()
    changed: list[Changed] = []
    unchanged = 0
    for old, new in _pairs(before.jobs, after.jobs):
        one = _changed(old, new)
        if not _worth_saying(one):
            unchanged += 1
            continue
        if old is not None and new is not None and old.job is not None and new.job is not None and one.rise:
            one = replace(one, causes=causes(old.job, new.job, simulator))
        changed.append(one)
    ordered = sorted(changed, key=lambda one: (-(one.rise or 0), one.name))
    return Comparison(*names, tuple(ordered), unchanged)


_Pair = tuple[JobReport | None, JobReport | None]


def _pairs(before: Iterable[JobReport], after: Iterable[JobReport]) -> Iterator[_Pair]:
    """Jobs of one name; what is left over is new or gone."""
    waiting: defaultdict[str, list[JobReport]] = defaultdict(list)
    for job in _trained(before):
        waiting[job.name].append(job)
    for job in _trained(after):
        same = waiting[job.name]
        yield (same.pop(0) if same else None), job
    for jobs in waiting.values():
        for job in jobs:
            yield job, None


def _trained(jobs: Iterable[JobReport]) -> Sequence[JobReport]:
    return [job for job in jobs if job.status != "skipped"]


def _changed(old: JobReport | None, new: JobReport | None) -> Changed:
    known = new or old
    name, path = (known.name, known.path) if known is not None else ("", "")
    return Changed(name, path, _side(old), _side(new))


def _side(job: JobReport | None) -> Side | None:
    if job is None:
        return None
    simulated = job.high is not None and job.high.method == "simulated"
    need = job.high.device_need if job.high is not None and simulated else None
    reason = job.reason or (job.high.why if job.high is not None and not simulated else "")
    return Side(job.status, need, job.gpu_usable, job.gpu or "", reason)


def _worth_saying(one: Changed) -> bool:
    if one.before is None or one.after is None:
        return True
    if one.rise is None:
        return (one.before.need is None) != (one.after.need is None)
    return abs(one.rise) >= LEAST or one.before.fits != one.after.fits
