"""Plans for the jobs of real files: each is made, and the files read again from their new bytes."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from vramlint.api import Hardware, SourceFile, Surroundings, lint
from vramlint.api.fitting import Request, fit_files
from vramlint.cli import disk
from vramlint.discovery.forms import form_of
from vramlint.engine import load_rules
from vramlint.findings import Report
from vramlint.fixes.applying import apply
from vramlint.plans import FitReport, Fitting, Plan
from vramlint.settings import Settings
from vramlint.values import Problem

RULES = load_rules()
EVERYTHING = frozenset({"lora", "qlora", "seq-len"})


@dataclass(slots=True)
class Tally:
    """What came of all files."""

    statuses: Counter[str] = field(default_factory=Counter)
    plans: int = 0
    complete: int = 0
    """All of whose changes are edits."""
    partly: int = 0
    by_hand: int = 0
    kept: int = 0
    """Plans with edits whose files, read again, need the promised peak."""
    broken: list[str] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """Of each job's search, in this process."""
    changes: Counter[str] = field(default_factory=Counter)
    """Of first plans."""


def of_files(paths: Sequence[Path], gpus: Sequence[str], *, everything: bool) -> Tally:
    """Plans for the jobs of files on each GPU; with `everything` those that change what is trained, too."""
    tally = Tally()
    request = Request(EVERYTHING if everything else frozenset())
    for path in paths:
        for gpu in gpus:
            begun = time.process_time()
            try:
                report = _fitted(str(path), gpu, request)
            except Exception as error:  # a crash is a result of this bench
                tally.crashed.append(f"{path} on {gpu}: {type(error).__name__}: {error}")
                continue
            if any(job.status != "unresolved" for job in report.jobs):
                tally.seconds.append(time.process_time() - begun)
            for job in report.jobs:
                _count(tally, str(path), gpu, job, report)
    return tally


def _fitted(path: str, gpu: str, request: Request, changed: Mapping[str, bytes] | None = None) -> FitReport:
    disk.forget()
    return fit_files(_files(path, changed), lambda _: Settings(), _around(gpu, changed or {}), request)


def _files(path: str, changed: Mapping[str, bytes] | None = None) -> list[SourceFile]:
    data = (changed or {}).get(path) or disk.load(path)
    return [SourceFile(path, form_of(path), data, explicit=True)] if data is not None and form_of(path) else []


def _around(gpu: str, changed: Mapping[str, bytes]) -> Surroundings:
    return Surroundings(
        lambda path: changed.get(path) or disk.load(path),
        disk.names,
        disk.repository,
        Hardware(gpu=gpu),
        disk.around,
        os.path.abspath,
        alone=True,
    )


def _count(tally: Tally, path: str, gpu: str, job: Fitting, report: FitReport) -> None:
    tally.statuses[job.status] += 1
    for number, plan in enumerate(job.plans, start=1):
        tally.plans += 1
        tally.changes.update(change.name for change in plan.changes if number == 1)
        tally.complete += plan.complete
        tally.by_hand += not plan.edits
        tally.partly += bool(plan.edits) and not plan.complete
        if not plan.edits:
            continue
        wrong = _wrong(path, job, plan, gpu, report)
        tally.kept += not wrong
        tally.broken += [f"{path} on {gpu}: {job.name}, plan {number}: {wrong}"] if wrong else []


def _wrong(path: str, job: Fitting, plan: Plan, gpu: str, report: FitReport) -> str:
    """How the edited files differ from what the plan promises; empty where they don't."""
    changed = apply(plan.edits, report.documents, disk.load)
    if isinstance(changed, Problem):
        return changed.message
    promised = plan.peak if plan.complete else plan.reread
    again = next((item for item in _fitted(path, gpu, Request(), changed).jobs if item.name == job.name), None)
    if again is None or not again.need:
        return "no such job any more"
    if again.need != promised:
        return f"{promised} promised, {again.need} found"
    left = [finding.message for finding in _checked(path, gpu, changed).findings if finding.code == "VRAM101"]
    return left[0] if left and plan.complete else ""


def _checked(path: str, gpu: str, changed: Mapping[str, bytes]) -> Report:
    disk.forget()
    return lint(_files(path, changed), Settings(), RULES, _around(gpu, changed))


@cache
def _all(root: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in root.rglob("*") if path.is_file() and form_of(path.name)))


def found_under(root: Path) -> Iterator[Path]:
    """The files under a folder that vramlint can read."""
    yield from _all(root)
