"""Fixes over real projects: made twice, held against what they promise, and against every byte beside them.

    python bench/fixes.py --root CHECKOUTS [--root …] [--gpu NAME …] [--json] [--diffs FILE] [--keep FOLDER]
    python bench/fixes.py --root CHECKOUTS --list FILE [--gpu NAME …] [--json] [--diffs FILE]

Every folder of each `--root` is a project, copied for each GPU before it is fixed with `--fix --unsafe-fixes`; with
`--list` every file that it names, a line each and relative to the `--root`, alone in a copy of its project. Counted:
`findings` with `plans`, `editable` ones whose edits were tried and are offered, `made` fixes, `files` changed; `kept`
promises of `promised` (the job's peak, read and estimated again, is the plan's to a hundredth), `unstable` projects
(a second call changes something), `torn` files (a byte outside of the edits changed), `unparsed` files (another parser
of their form took them before and does not now), `unsettled` projects, `crashes`. `--diffs` writes all diffs, `--keep`
keeps the changed projects of the last GPU.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import traceback
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

if not __package__:  # run as a script: `bench` is found beside this file's folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.projects import Copy, Listed, by_project, listed
from bench.untouched import parses, untouched
from vramlint.api import fixing
from vramlint.cli import disk
from vramlint.cli.arguments import parse
from vramlint.cli.fixing import difference
from vramlint.cli.work import Work
from vramlint.cli.writing import write_all
from vramlint.discovery.forms import form_of
from vramlint.findings import Finding, Fix, Report
from vramlint.fixes import applying
from vramlint.text import Document, Edit
from vramlint.values import Problem

GPUS = ("rtx3090", "a100-40gb", "h100")
COUNTS = ("findings", "plans", "editable", "made", "files", "promised", "kept", "unsettled", "unstable")
LISTS = ("broken", "torn", "unparsed", "failed", "crashes")
TOLERANCE = 0.01
_CODEC = ("utf-8", "surrogateescape")


def options_of(path: Path, gpu: str) -> Namespace:
    """The command line that fixes a project or a file."""
    return parse("check", ["--isolated", "--gpu", gpu, "--fix", "--unsafe-fixes", str(path)])


def visit(path: Path, gpu: str) -> dict[str, Any]:
    """One project or file, fixed in place. A crash is a result, too."""
    begun = time.perf_counter()
    row: dict[str, Any] = {**dict.fromkeys(COUNTS, 0), **{name: [] for name in LISTS}, "diffs": [], "codes": Counter()}
    try:
        _visit(options_of(path, gpu), row)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        row["crashes"].append(f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})")
    row["seconds"] = time.perf_counter() - begun
    return row


def _visit(options: Namespace, row: dict[str, Any]) -> None:
    work = Work(options, options.paths)
    report = work.check({})
    plans = [item for item in report.findings if isinstance(item.fix, Fix)]
    row |= {"findings": len(report.findings), "plans": len(plans)}
    row["editable"] = sum(item.fixable(unsafe=True) for item in report.findings)
    promises(work, report, row)
    torn: list[str] = row["torn"]
    with recorded(torn):
        fixed = fixing.fix(work.check, fixing.Disk(work.load, disk.identity, work.form), unsafe=True)
    row |= {"made": len(fixed.made), "files": len(fixed.changed), "unsettled": int(not fixed.settled)}
    row["codes"] = Counter(made.code for made in fixed.made)
    row["failed"] = [f"{item.place.path}: {item.message}" for item in fixed.failed]
    for path, data in fixed.changed.items():
        before = work.load(path) or b""
        row["diffs"].append(difference(path, data, work))
        if parses(path, work.form(path), before) and not parses(path, work.form(path), data):
            row["unparsed"].append(path)
    write_all(fixed.changed)
    again = Work(options, options.paths)
    second = fixing.fix(again.check, fixing.Disk(again.load, disk.identity, again.form), unsafe=True)
    row["unstable"] = int(bool(second.changed))
    row["diffs"] += [difference(path, data, again) for path, data in second.changed.items()]


class _Promise(NamedTuple):
    """A plan whose edits can all be made."""

    finding: Finding
    fix: Fix
    job: int
    """Its number in the report."""
    edits: tuple[Edit, ...]


def promises(work: Work, report: Report, row: dict[str, Any]) -> None:
    """Make the first round's whole plans together, and hold every job's peak against its plan.

    Jobs that share a file change each other: a plan that is not kept beside the others is made alone.
    """
    taken: list[Edit] = []
    aimed: list[_Promise] = []
    for finding in report.findings:
        fix = finding.fix
        index = next((i for i, job in enumerate(report.jobs) if job.high is finding.estimate is not None), None)
        if not isinstance(fix, Fix) or index is None or not all(step.edits for step in fix.steps):
            continue
        edits = fix.edits(unsafe=True)
        paths = {edit.place.path for edit in edits}
        if any(other.place.path in paths and other not in edits for other in taken):
            continue  # a file of two jobs: the second plan is worked out anew behind the first
        taken += edits
        aimed.append(_Promise(finding, fix, index, edits))
    for promise, got in _held(work, report, aimed):
        alone = next((one for _, one in _held(work, report, [promise])), "") if got and len(aimed) > 1 else got
        row["promised"] += 1
        row["kept"] += not alone
        row["broken"] += [f"{promise.finding.place.path}: {alone}"] if alone else []


def _held(work: Work, report: Report, aimed: Sequence[_Promise]) -> Iterator[tuple[_Promise, str]]:
    """What some plans, made together, come to besides what they promise; empty where that is kept."""
    edits = [edit for promise in aimed for edit in promise.edits]
    changed = applying.apply(edits, report.documents, work.load, work.form)
    if isinstance(changed, Problem):
        yield from ((promise, f"{changed.place.path}: {changed.message}") for promise in aimed)
        return
    after = work.check({disk.identity(path): data for path, data in changed.items()}) if edits else report
    for promise in aimed:
        high = after.jobs[promise.job].high if promise.job < len(after.jobs) else None
        if high is not None and abs(high.device_need - promise.fix.peak) <= TOLERANCE * promise.fix.peak:
            yield promise, ""
        else:
            got = "no figure" if high is None else f"{high.device_need / 2**30:.2f}"
            yield promise, f"{got} GiB, promised {promise.fix.peak / 2**30:.2f}"


class recorded:  # noqa: N801 (reads as a verb)
    """Holds the bytes of every file that is changed against its edits, by other code than the one under test."""

    def __init__(self, torn: list[str]) -> None:
        self._torn = torn
        self._apply = applying.apply

    def __enter__(self) -> None:
        def held(
            edits: Iterable[Edit],
            documents: Mapping[str, Document],
            load: Callable[[str], bytes | None],
            form: Callable[[str], str] = form_of,
        ) -> dict[str, bytes] | Problem:
            edits = list(edits)
            made = self._apply(edits, documents, load, form)
            for path, data in () if isinstance(made, Problem) else made.items():
                own = [edit for edit in dict.fromkeys(edits) if edit.place.path == path]
                before = load(path) or b""
                if not untouched(before, data, documents[path], own, notebook=form(path) == "notebook"):
                    self._torn.append(path)
            return made

        applying.apply = held

    def __exit__(self, *_: object) -> None:
        applying.apply = self._apply


def measure(roots: Sequence[Path], gpus: Sequence[str], keep: Path | None = None) -> dict[str, Any]:
    """All projects under all GPUs, by `project@gpu`."""
    rows: dict[str, Any] = {}
    for project in sorted(path for root in roots for path in root.resolve().iterdir() if path.is_dir()):
        for gpu in gpus:
            name = f"{project.parent.name}/{project.name}"
            with tempfile.TemporaryDirectory() as scratch, Copy(project, Path(scratch)) as copy:
                row = rows[f"{name}@{gpu}"] = _told(f"{name}@{gpu}", visit(copy.folder, gpu), scratch)
                if keep is not None and row["files"] and gpu == gpus[-1]:
                    shutil.copytree(copy.folder, keep / name, dirs_exist_ok=True, symlinks=True)
    return rows


def measure_files(root: Path, files: Sequence[Listed], gpus: Sequence[str]) -> dict[str, Any]:
    """Files of projects, each alone under all GPUs, by `project/path@gpu`."""
    rows: dict[str, Any] = {}
    for project, paths in by_project(files).items():
        with tempfile.TemporaryDirectory() as scratch, Copy(root / project, Path(scratch)) as copy:
            for path, gpu in product(paths, gpus):
                name = f"{project}/{path}@{gpu}"
                rows[name] = _told(name, visit(copy.folder / path, gpu), scratch)
                copy.restore()
    return rows


def _told(name: str, row: dict[str, Any], scratch: str) -> dict[str, Any]:
    row["diffs"] = [text.replace(f"{scratch}/", "") for text in row["diffs"]]
    counts = {name: row[name] for name in COUNTS}
    print(
        name,
        f"{row['seconds']:.1f}s",
        counts,
        {name: row[name] for name in LISTS if row[name]} or "",
        file=sys.stderr,
        flush=True,
    )
    return row


def total(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All of them as one."""
    sums: dict[str, Any] = {name: sum(row[name] for row in rows.values()) for name in COUNTS}
    for name in LISTS:
        sums[name] = [f"{key}: {item}" for key, row in rows.items() for item in row[name]]
    sums["codes"] = sum((row["codes"] for row in rows.values()), Counter())
    return sums


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; exits 1 when a fix is not what it should be."""
    parser = argparse.ArgumentParser(description="Fixes over real projects.")
    parser.add_argument("--root", type=Path, action="append", required=True, help="folder of projects")
    parser.add_argument("--gpu", action="append", help=f"default: {', '.join(GPUS)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--diffs", type=Path, help="write every diff there")
    parser.add_argument("--keep", type=Path, help="keep the changed projects there")
    parser.add_argument("--list", type=Path, help="only the files of this list, one by one")
    options = parser.parse_args(arguments)
    gpus = options.gpu or GPUS
    if options.list is None:
        rows = measure(options.root, gpus, options.keep)
    else:
        root = options.root[-1].resolve()
        rows = measure_files(root, listed(options.list, root), gpus)
    sums = total(rows)
    if options.diffs:
        texts = (f"##### {key}\n{text}" for key, row in rows.items() for text in row["diffs"])
        options.diffs.write_text("\n".join(texts), encoding="utf-8")
    if options.json:
        print(json.dumps({"total": sums, "projects": rows}, indent=1))
    else:
        for name in (*COUNTS, "codes"):
            print(f"{name:10} {dict(sums[name]) if name == 'codes' else sums[name]}")
        for name in LISTS:
            print(f"{name:10} {len(sums[name])}", *sums[name][:20], sep="\n    ")
    return int(any(sums[name] for name in (*LISTS, "unsettled", "unstable")))


if __name__ == "__main__":
    sys.exit(main())
