"""Whether the vocabulary of every configuration of a corpus is told, and whether its run is read.

    python bench/kinds.py --index INDEX.tsv --root FOLDER [--framework NAME] [--json]

INDEX.tsv has columns `framework` and `file`, the latter relative to FOLDER. Per framework: files, how many are told to
be of the right kind (`TOLD_AS`), how many crash, of those that hold a whole run (`PARTS` do not) how many are complete
(no fact of it is in another file by `_ELSEWHERE`), and how many are resolved: the job is checked, or has a peak
although no model and no batch was assumed. Then the files that are told wrongly, those that stay unresolved with the
reason, and every finding about an unknown, removed or misplaced key.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

if not __package__:  # run as a script: `bench` is found beside this file's folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.extraction import explain

Row = Mapping[str, Any]

TOLD_AS: Mapping[str, tuple[str, ...]] = {
    "accelerate": ("accelerate-config", "fsdp-json"),
    "hf-model-config": ("model-config",),
    "model-dims-llm-analysis": ("model-config", "model-dims"),
    "peft-measured": ("peft",),
}
"""What the files of a framework may be told as; where nothing is said, by the framework's own name."""

PARTS = frozenset({"accelerate", "deepspeed-json", "hf-model-config", "model-dims-llm-analysis", "peft"})
"""Frameworks whose files are one part of a run: its machine, its sharding, its model, its adapter."""

_KEYS = re.compile(r"unknown|removed-key|misplaced")
"""Names of the rules about keys that a framework does not take."""
_ASSUMED = ("model", "micro_batch_size")
_ELSEWHERE = re.compile(
    r"another file of the same command line says it|the recipe that the file overrides says it|"
    r"no file says the micro batch size|\(/[^ ]* is neither a model of the catalog nor a folder|"
    r"neither trains nor generates by itself|^model is not known(;|$)"
)
"""Reasons of jobs whose file leaves a fact out: another file, a recipe or the machine of the run has it."""
COLUMNS = ("files", "told", "crashed", "runs", "complete", "resolved", "unknown_keys")


class Outcome(NamedTuple):
    """What came of one file."""

    file: str
    framework: str
    told: str
    """The kind; empty where the file was taken for no configuration."""
    right: bool
    status: str
    """checked, unresolved, skipped, or crashed."""
    reason: str
    resolved: bool
    keys: tuple[str, ...]
    """Findings about keys, as `name line: message`."""

    @property
    def run(self) -> bool:
        """Whether the framework's files hold a whole run."""
        return self.framework not in PARTS

    @property
    def complete(self) -> bool:
        """Whether the file has what tells its run."""
        return self.run and (self.resolved or _ELSEWHERE.search(self.reason) is None)


def look(file: str, framework: str, root: Path) -> Outcome:
    """Explain one file."""
    output, failure = explain(root / file)
    if output is None:
        return Outcome(file, framework, "", False, "crashed", failure, False, ())
    jobs: Sequence[Row] = output["jobs"]
    job: Row = jobs[0] if jobs else {}
    told = str((job.get("vocabulary") or {}).get("name", ""))
    right = told in TOLD_AS.get(framework, (framework,))
    return Outcome(
        file, framework, told, right, str(job.get("status", "skipped")), str(job.get("reason", "no job")),
        any(map(resolved, jobs)), tuple(key_findings(output["problems"])),
    )  # fmt: skip


def resolved(job: Row) -> bool:
    """Whether a job is predicted by what the files say."""
    if job["status"] == "checked":
        return True
    assumed = {fact["name"] for fact in job["facts"] if fact["origin"] in ("assumed", "unknown")}
    return job["estimate"] is not None and not assumed.intersection(_ASSUMED)


def key_findings(problems: Iterable[Row]) -> Iterable[str]:
    """The findings about keys."""
    for problem in problems:
        if _KEYS.search(problem["name"]):
            line = (problem["location"] or {}).get("line", 0)
            yield f"{problem['name']} line {line}: {problem['message']}"


def tally(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """The columns of some files."""
    runs = [item for item in outcomes if item.run]
    return {
        "files": len(outcomes),
        "told": sum(item.right for item in outcomes),
        "crashed": sum(item.status == "crashed" for item in outcomes),
        "runs": len(runs),
        "complete": sum(item.complete for item in runs),
        "resolved": sum(item.resolved for item in runs),
        "unknown_keys": sum(len(item.keys) for item in outcomes),
    }


def measure(index: Path, root: Path, framework: str = "") -> dict[str, Any]:
    """The whole report as plain data.

    Args:
        index: The table of files, with a header.
        root: The folder that they are relative to.
        framework: Only this one's.
    """
    with index.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    wanted = [row for row in rows if not framework or row["framework"] == framework]
    there = [row for row in wanted if (root / row["file"]).is_file()]
    outcomes = [look(row["file"], row["framework"], root) for row in there]
    names = sorted({item.framework for item in outcomes})
    return {
        **tally(outcomes),
        "absent": [row["file"] for row in wanted if row not in there],
        "frameworks": {name: tally([item for item in outcomes if item.framework == name]) for name in names},
        "told_wrongly": {item.file: item.told for item in outcomes if not item.right and item.status != "crashed"},
        "crashes": {item.file: item.reason for item in outcomes if item.status == "crashed"},
        "unresolved": {
            item.file: f"{item.status}: {item.reason}"
            for item in outcomes
            if item.run and not item.resolved and item.status != "crashed"
        },
        "keys": {item.file: list(item.keys) for item in outcomes if item.keys},
    }


def show(report: Mapping[str, Any]) -> None:
    """Print the tables."""
    width = max((len(name) for name in report["frameworks"]), default=5)
    print(f"{'':{width}}" + "".join(f"{column:>14}" for column in COLUMNS))
    for name, row in {**report["frameworks"], "total": report}.items():
        print(f"{name:{width}}" + "".join(f"{row[column]:>14}" for column in COLUMNS))
    for title in ("told_wrongly", "crashes", "unresolved", "keys"):
        for file, text in report[title].items():
            for line in text if isinstance(text, list) else [text]:
                print(f"{title}: {file}: {line or 'nothing'}")
    if report["absent"]:
        print(f"{len(report['absent'])} absent")
    if report["files"]:
        print(f"right kind: {report['told'] / report['files']:.1%} of {report['files']} files")
    if report["runs"]:
        print(f"resolved: {report['resolved'] / report['runs']:.1%} of {report['runs']} runs")
    if report["complete"]:
        told = f"{report['complete']} runs whose facts are in the file"
        print(f"resolved: {report['resolved'] / report['complete']:.1%} of {told}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; exits 1 when vramlint crashed on a file."""
    parser = argparse.ArgumentParser(description="Whether the vocabulary of every configuration of a corpus is told.")
    parser.add_argument("--index", type=Path, required=True, help="the table of files: framework, file, …")
    parser.add_argument("--root", type=Path, required=True, help="folder that the files are relative to")
    parser.add_argument("--framework", default="", help="only the files of this one")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    report = measure(options.index, options.root, options.framework)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        show(report)
    return 1 if report["crashes"] else 0


if __name__ == "__main__":
    sys.exit(main())
