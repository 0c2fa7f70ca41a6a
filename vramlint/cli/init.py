"""`vramlint init [FOLDER]`: what a repository trains on which machines, and the files that make vramlint watch it."""

from __future__ import annotations

import difflib
import os
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator

from msgspec import Struct

from vramlint import __version__
from vramlint.cli.atomic import write_atomically
from vramlint.cli.errors import CLEAN, UsageError
from vramlint.cli.setup_files import HOOKS, SECTION, WORKFLOW, Choice, appended, names, section, with_hook, workflow
from vramlint.cli.work import check_paths
from vramlint.findings import JobReport, Report
from vramlint.report.words import count, printable
from vramlint.settings.loading import FILE_NAMES


class Planned(Struct, frozen=True):
    """One file to write, or why it is left as it is."""

    path: str
    before: str
    after: str
    why_not: str = ""


def run(options: Namespace) -> int:
    """Look, say what was found, write. Nothing that is there is changed but by adding to it."""
    folder = options.folder
    if not os.path.isdir(folder):
        raise UsageError(f"{folder} is no folder")
    report = check_paths(options, [folder]).report
    sys.stdout.write("".join(f"{line}\n" for line in _found(report)))
    plans = list(_plans(folder, options, report))
    for plan in plans:
        if plan.why_not:
            sys.stdout.write(f"left alone: {plan.path}: {plan.why_not}\n")
        elif options.dry_run:
            sys.stdout.write(_diff(plan))
        else:
            write_atomically(plan.path, plan.after)
            sys.stdout.write(f"{'extended' if plan.before else 'wrote'}: {plan.path}\n")
    return CLEAN


def _jobs(report: Report) -> list[JobReport]:
    return [job for job in report.jobs if job.status != "skipped"]


def _found(report: Report) -> Iterator[str]:
    """What the repository trains, in which vocabularies, and on which machines."""
    jobs = _jobs(report)
    files = len({job.path for job in jobs})
    judged = sum(job.status == "checked" for job in jobs)
    found = f"found {count(len(jobs), 'training job')} in {count(files, 'file')}"
    yield f"{found}: {judged} can be judged, {len(jobs) - judged} cannot yet" if jobs else f"{found}"
    kinds = Counter(job.recognised.kind for job in jobs if job.recognised is not None)
    if kinds:
        yield "  configurations: " + ", ".join(f"{amount} {kind}" for kind, amount in kinds.most_common())
    machines = Counter(_machine(job) for job in jobs)
    for machine, amount in machines.most_common():
        yield f"  {count(amount, 'job')} {f'on {printable(machine)}' if machine else 'without a declared GPU'}"
    if report.findings:
        yield f"  `vramlint` reports {count(len(report.findings), 'finding')} now"


def _machine(job: JobReport) -> str:
    """`NVIDIA H100 80GB HBM3, 8 GPUs`, or the devices that it may be; empty where no GPU is declared."""
    facts = {fact.name: fact for fact in job.facts}
    asked = facts.get("gpu")
    device = job.gpu or (" or ".join(str(item.value) for item in asked.candidates) if asked else "")
    world = facts.get("world_size")
    number = world.value if world else None
    return f"{device}, {count(number, 'GPU')}" if device and isinstance(number, int) else device


def _plans(folder: str, options: Namespace, report: Report) -> Iterator[Planned]:
    undeclared = tuple(dict.fromkeys(printable(job.name) for job in _jobs(report) if not _machine(job)))
    choice = Choice(
        options.gpu or "", options.gpus_per_node, options.nodes, options.ram or "", options.nvme or "", undeclared
    )
    if not choice.gpu and undeclared:
        sys.stdout.write(f"  no file says on which GPU these run: {names(undeclared)}; `--gpu NAME` declares it\n")
    yield _settings(folder, choice)
    if options.hook:
        yield _hook(os.path.join(folder, HOOKS))
    if options.workflow:
        yield _workflow(folder)


def _settings(folder: str, choice: Choice) -> Planned:
    own, project = (os.path.join(folder, name) for name in FILE_NAMES)
    if os.path.exists(own):
        return Planned(own, "", "", "it is there already")
    if not os.path.exists(project):
        return Planned(own, "", section(choice, table=False))
    before = _read(project)
    if SECTION in before or "tool.vramlint" in before:
        return Planned(project, before, before, f"it has a section {SECTION} already")
    return Planned(project, before, appended(before, section(choice, table=True)))


def _hook(path: str) -> Planned:
    before = _read(path) if os.path.exists(path) else ""
    if "vramlint" in before:
        return Planned(path, before, before, "it has the hook already")
    after = with_hook(before, __version__)
    if after is None:
        return Planned(path, before, before, "its list of repos is not at its end; add the hook as the README shows")
    return Planned(path, before, after)


def _workflow(folder: str) -> Planned:
    path = os.path.join(folder, *WORKFLOW.split("/"))
    if os.path.exists(path):
        return Planned(path, "", "", "it is there already")
    if os.path.exists(os.path.join(folder, ".gitlab-ci.yml")) and not os.path.isdir(os.path.join(folder, ".github")):
        return Planned(path, "", "", "this repository is checked by GitLab; run `vramlint` in a job of your own")
    return Planned(path, "", workflow())


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None


def _diff(plan: Planned) -> str:
    rows = difflib.unified_diff(
        plan.before.splitlines(keepends=True),
        plan.after.splitlines(keepends=True),
        plan.path if plan.before else "/dev/null",
        plan.path,
    )
    return "".join(row if row.endswith("\n") else f"{row}\n" for row in rows)
