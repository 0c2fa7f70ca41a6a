"""The new texts of real files after fixes and after plans; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.fit_files import EVERYTHING
from vramlint.api import Hardware, SourceFile, Surroundings, fixing
from vramlint.api.fitting import Request, fit_files
from vramlint.cli import disk
from vramlint.cli.arguments import parse
from vramlint.cli.work import Work
from vramlint.discovery.forms import form_of
from vramlint.fixes.applying import apply
from vramlint.settings import Settings
from vramlint.values import Problem

PLANS = 2
"""Plans of a job that are made."""


class Edited(NamedTuple):
    """One file after one set of edits."""

    path: str
    by: str
    """`fix`, `plan 1`, `plan 2 of train.py`, with the GPU."""
    before: str
    after: str


def edited(path: Path, gpu: str, *, everything: bool = False) -> Iterator[Edited]:
    """Every file that changes when a file is fixed, or a plan of one of its jobs is made; each new text once."""
    seen: set[tuple[str, bytes]] = set()
    for by, changed in _changes(path, gpu, everything=everything):
        for name, data in changed.items():
            if (name, data) not in seen:
                seen.add((name, data))
                before = disk.load(name) or b""
                yield Edited(name, f"{by} for {gpu}", before.decode("utf-8-sig"), data.decode("utf-8-sig"))


def _changes(path: Path, gpu: str, *, everything: bool) -> Iterator[tuple[str, Mapping[str, bytes]]]:
    options = parse("check", ["--isolated", "--gpu", gpu, "--fix", "--unsafe-fixes", str(path)])
    work = Work(options, options.paths)
    yield "fix", fixing.fix(work.check, fixing.Disk(work.load, disk.identity, work.form), unsafe=True).changed
    disk.forget()
    around = Surroundings(
        disk.load, disk.names, disk.repository, Hardware(gpu=gpu), disk.around, lambda name: name, alone=True
    )
    data = disk.load(str(path))
    files = [SourceFile(str(path), form_of(path.name), data, explicit=True)] if data is not None else []
    for request in (Request(), Request(EVERYTHING)) if everything else (Request(),):
        report = fit_files(files, lambda _: Settings(), around, request)
        for job in report.jobs:
            for number, plan in enumerate(job.plans[:PLANS], start=1):
                made = apply(plan.edits, report.documents, disk.load)
                if plan.edits and not isinstance(made, Problem):
                    yield f"plan {number} of {job.name}{_allowed(request.allowed)}", made


def _allowed(names: Sequence[str] | frozenset[str]) -> str:
    return " with all allowed" if names else ""
