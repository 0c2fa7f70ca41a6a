"""Whole repositories that nobody here wrote: what vramlint finds in them, and whether it survives.

    python bench/wild.py --root CHECKOUTS [--gpu NAME] [--json] [--findings FILE]

Every folder of `--root` is one repository. Per repository and in total: `files` read, `jobs` found, how many of them
are `checked`, `unresolved` and `skipped` (nothing in them trains), findings by rule, `crashes`, `seconds`. Then the
reasons for which jobs stay unresolved, the most frequent first. `--findings` writes every finding as a line of TSV.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

if not __package__:  # run as a script: `bench` is found beside this file's folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vramlint.__main__ import main as vramlint
from vramlint.discovery.forms import form_of

STATES = ("checked", "unresolved", "skipped")
_DETAIL = re.compile(r"`[^`]*`|'[^']*'|\"[^\"]*\"|\b\d+\b|[\w./-]+\.(?:py|sh|json|ya?ml|ipynb)\b|line \d+")


class Outcome(NamedTuple):
    """What came of one call."""

    report: Mapping[str, Any] | None
    error: str
    """How it failed; empty when it did not."""


def check(paths: Sequence[str], gpu: str) -> Outcome:
    """`vramlint --format json` over some paths, in this process."""
    out, err = io.StringIO(), io.StringIO()
    arguments = ["--format", "json", "--isolated", *(("--gpu", gpu) if gpu else ()), "--", *paths]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = vramlint(arguments)
    except BaseException as error:  # a crash is a result of this bench
        if isinstance(error, KeyboardInterrupt):
            raise
        return Outcome(None, f"{type(error).__name__}: {error}")
    if code not in (0, 1):
        return Outcome(None, err.getvalue().strip()[-300:])
    return Outcome(json.loads(out.getvalue()), "")


def crashes(folder: Path, gpu: str) -> Iterator[str]:
    """The files of a repository on which vramlint fails, one by one."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and form_of(path.name) and ".git" not in path.parts:
            failure = check([str(path)], gpu).error
            if failure:
                yield f"{path}: {failure}"


def visit(folder: Path, gpu: str) -> dict[str, Any]:
    """One repository."""
    before = Path.cwd()
    start = time.perf_counter()
    os.chdir(folder)
    try:
        outcome = check(["."], gpu)
    finally:
        os.chdir(before)
    seconds = time.perf_counter() - start
    report = outcome.report or {"jobs": [], "findings": [], "summary": {}}
    states = Counter(job["status"] for job in report["jobs"])
    return {
        "files": report["summary"].get("files_checked", 0),
        "jobs": len(report["jobs"]),
        **{state: states[state] for state in STATES},
        "findings": Counter(item["name"] for item in report["findings"]),
        "reasons": Counter(general(job["reason"]) for job in report["jobs"] if job["status"] == "unresolved"),
        "crashes": [outcome.error, *crashes(folder, gpu)] if outcome.error else [],
        "seconds": round(seconds, 2),
        "found": [
            (item["code"], item["name"], item["severity"], f"{item['filename']}:{item['location']['row']}",
             item["message"], "; ".join(item["notes"]))
            for item in report["findings"]
        ],
    }  # fmt: skip


def general(reason: str) -> str:
    """A reason without the names in it, so that equal causes count together."""
    return _DETAIL.sub("…", reason)


def total(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All repositories as one."""
    sums: dict[str, Any] = {name: sum(row[name] for row in rows.values()) for name in ("files", "jobs", *STATES)}
    sums["findings"] = sum((Counter(row["findings"]) for row in rows.values()), Counter())
    sums["reasons"] = sum((Counter(row["reasons"]) for row in rows.values()), Counter())
    sums["crashes"] = [crash for row in rows.values() for crash in row["crashes"]]
    sums["seconds"] = round(sum(row["seconds"] for row in rows.values()), 2)
    return sums


def show(report: Mapping[str, Any]) -> None:
    """Print the tables."""
    columns = ("files", "jobs", *STATES, "seconds")
    width = max((len(name) for name in report["repositories"]), default=5)
    print(f"{'':{width}}" + "".join(f"{name:>12}" for name in (*columns, "findings", "crashes")))
    for name, row in {**report["repositories"], "total": report["total"]}.items():
        cells = (*(row[column] for column in columns), sum(row["findings"].values()), len(row["crashes"]))
        print(f"{name:{width}}" + "".join(f"{cell:>12}" for cell in cells))
    for title in ("findings", "reasons"):
        print(f"\n{title if title == 'findings' else 'unresolved because'}")
        for text, amount in Counter(report["total"][title]).most_common(40):
            print(f"  {amount:6} {text[:200]}")
    for crash in report["total"]["crashes"]:
        print(f"crash: {crash}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; exits 1 when vramlint crashed on a repository."""
    parser = argparse.ArgumentParser(description="What vramlint finds in whole repositories.")
    parser.add_argument("--root", type=Path, required=True, help="folder of repositories")
    parser.add_argument("--gpu", default="", help="the GPU that every job is held against")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--findings", type=Path, help="write every finding there as TSV")
    options = parser.parse_args(arguments)
    rows = {
        folder.name: visit(folder, options.gpu)
        for folder in sorted(options.root.resolve().iterdir())
        if folder.is_dir()
    }
    if options.findings:
        lines = ["\t".join((name, *item)) for name, row in rows.items() for item in row["found"]]
        options.findings.write_text("".join(f"{' '.join(line.splitlines())}\n" for line in lines), encoding="utf-8")
    shown = {name: {key: value for key, value in row.items() if key != "found"} for name, row in rows.items()}
    report = {"repositories": shown, "total": total(rows)}
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        show(report)
    return 1 if report["total"]["crashes"] else 0


if __name__ == "__main__":
    sys.exit(main())
