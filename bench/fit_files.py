"""Plans for the jobs of real files: each is made, and the files read again from their new bytes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from bench.untouched import parses, untouched
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
    each: dict[str, float] = field(default_factory=dict)
    """Seconds of every file and GPU."""
    changes: Counter[str] = field(default_factory=Counter)
    """Of first plans."""


class Wall(NamedTuple):
    """What a process took."""

    seconds: float
    cpu: float
    """Of these on the processor: less where other programs had it."""
    first: float
    """Until the first of its jobs was answered."""
    longest: float
    """The longest without an answer: until the first of its jobs, from one to the next, or to the end."""


def walls(paths: Sequence[Path], gpu: str) -> dict[str, Wall]:
    """What `vramlint fit FILE` takes in a process of its own, by file; its exit code is not looked at."""
    found = {}
    for path in paths:
        command = [sys.executable, "-m", "vramlint", "fit", str(path), "--isolated", "--gpu", gpu]
        begun, cpu = time.perf_counter(), _children()
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None  # noqa: S101 (it is a pipe)
            answers = [begun]
            while os.read(process.stdout.fileno(), 1 << 20):
                answers.append(time.perf_counter())
        answers.append(time.perf_counter())
        longest = max(later - earlier for earlier, later in pairwise(answers))
        found[str(path)] = Wall(answers[-1] - begun, _children() - cpu, answers[1] - begun, longest)
    return found


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
            tally.each[f"{path}@{gpu}"] = time.process_time() - begun
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
    torn = _torn(plan, changed, report)
    if torn:
        return torn
    promised = plan.peak if plan.complete else plan.reread
    again = next((item for item in _fitted(path, gpu, Request(), changed).jobs if item.name == job.name), None)
    if again is None or not again.need:
        return "no such job any more"
    if again.need != promised:
        return f"{promised} promised, {again.need} found"
    checked = _checked(path, gpu, changed)
    needs = {id(each.high) for each in checked.jobs if each.name == job.name}
    left = [item.message for item in checked.findings if item.code == "VRAM101" and id(item.estimate) in needs]
    return left[0] if left and plan.complete else ""


def _torn(plan: Plan, changed: Mapping[str, bytes], report: FitReport) -> str:
    """What an edit did to a file besides what it says; empty where nothing."""
    for path, data in changed.items():
        edits = list(dict.fromkeys(edit for edit in plan.edits if edit.place.path == path))
        before = disk.load(path) or b""
        form = form_of(path)
        if not untouched(before, data, report.documents[path], edits, notebook=form == "notebook"):
            return f"bytes of {path} beside the edits changed"
        if parses(path, form, before) and not parses(path, form, data):
            return f"{path} is no {form} any more"
    return ""


def _checked(path: str, gpu: str, changed: Mapping[str, bytes]) -> Report:
    disk.forget()
    return lint(_files(path, changed), Settings(), RULES, _around(gpu, changed))


@cache
def _all(root: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in root.rglob("*") if path.is_file() and form_of(path.name)))


def found_under(root: Path) -> Iterator[Path]:
    """The files under a folder that vramlint can read."""
    yield from _all(root)
