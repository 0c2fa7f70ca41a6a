"""How right the extraction is: `explain --format json` against facts that people read from real files.

    python bench/extraction.py --expected expected_facts.json --root CHECKOUTS [--json] [--details]
                               [--kind script|config] [--framework NAME]

`--expected` maps `owner/repo:path` to hand-read facts, `--root` holds the checkouts as `owner__repo`. Per fact name and
in total: `n`, `right`, `wrong`, `missing`, `claimed_wrong` (of the wrong ones: said to be written in the files) and
`spans_right` (of the right ones whose line is known: our span covers it). `bench/comparison.py` defines each. `groups`
tells the files that speak for themselves (Hugging Face's libraries, DeepSpeed, Lightning, plain PyTorch) from those
of the frameworks with a vocabulary of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as a script: `bench` is found beside this file's folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.comparison import NAMES, Outcome, compare
from vramlint.__main__ import main as vramlint

Row = Mapping[str, Any]
COLUMNS = ("n", "right", "wrong", "missing", "claimed_wrong", "spans_right")
KINDS = ("script", "config", "all")
GROUPS = ("base", "frameworks")

_FRAMEWORKS = re.compile(
    r"llama-?factory|llamafactory|swift|axolotl|openrlhf|verl|hydra|torchtune|torchtitan|litgpt|open-?instruct|megatron"
    r"|neox|llm-foundry|xtuner|specforge|lmflow|colossal|unsloth|qlora-pipe|custom yaml|nemo|composer",
    re.IGNORECASE,
)
"""Frameworks with a vocabulary of their own, by what the expected facts say of the file, or by its repository."""


def group(key: str, row: Row) -> str:
    """base: a script or config of Hugging Face's libraries, DeepSpeed, Lightning or plain PyTorch; else frameworks."""
    own = _FRAMEWORKS.search(str(row.get("framework", ""))) or _FRAMEWORKS.search(key.partition(":")[0])
    return "frameworks" if own else "base"


def wanted(key: str, row: Row, kind: str, framework: str = "") -> bool:
    """Whether `--kind` and `--framework` ask for this file; a framework is a group, or part of what the row says."""
    asked = (
        not framework or framework == group(key, row) or framework.lower() in f"{row.get('framework')} {key}".lower()
    )
    return asked and (kind == "all" or row.get("kind") == kind)


def explain(path: Path) -> tuple[Row | None, str]:
    """What `vramlint explain --format json` prints for a file; or None and how it failed."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = vramlint(["explain", "--format", "json", "--isolated", str(path)])
        return json.loads(out.getvalue()), ""
    except json.JSONDecodeError:
        return None, f"exit {code}: {err.getvalue().strip()[-300:] or out.getvalue().strip()[:300]}"
    except (Exception, SystemExit) as error:  # a crash is a result of this bench
        return None, f"{type(error).__name__}: {error}"


def outcomes(row: Row, output: Row | None, path: str = "") -> list[Outcome]:
    """Every expected fact of one file held against the job that `explain` gives for it."""
    jobs: Sequence[Row] = output["jobs"] if output else ()
    trained = (job for job in jobs if job.get("kind") == "training" and job.get("path") == path)
    first: Row = jobs[0] if jobs else {}
    job = first if row.get("kind") == "config" else next(trained, first)  # a file by itself comes first
    facts = {fact["name"]: fact for fact in job.get("facts", ())}
    versions = {item["library"]: item["version"] for item in job.get("versions", ())}
    return [
        compare(name, expected, facts.get(NAMES.get(name, "")), versions, path)
        for name, expected in comparable(row["facts"]).items()
    ]


def comparable(facts: Mapping[str, Row]) -> Mapping[str, Row]:
    """The facts with one value put into the words of `explain`.

    A reader writes `fp32` for a Trainer without a precision flag, and leaves the weights' dtype to `load_dtype`;
    `explain` says `bf16-pure` when those weights turn out to be bfloat16. Where the reader's dtype is the checkpoint's
    own, his `fp32` says no more than that there is no autocast.
    """
    precision, dtype = facts.get("train_precision"), facts.get("load_dtype")
    if precision and dtype and precision["value"] == "fp32" and "auto" in str(dtype["value"]):
        return {**facts, "train_precision": {**precision, "value": "none (no autocast)"}}
    return facts


def tally(results: Iterable[Outcome]) -> dict[str, float]:
    """Counts, and the fractions that the targets speak of."""
    results = list(results)
    count = Counter(result.verdict for result in results)
    spans = sum(result.span_expected for result in results)
    table: dict[str, float] = {
        "n": len(results),
        "right": count["right"],
        "wrong": count["wrong"],
        "missing": count["missing"],
        "claimed_wrong": sum(result.claimed for result in results),
        "spans_right": sum(result.span_right for result in results),
        "spans_n": spans,
    }
    for name in ("right", "wrong", "missing", "claimed_wrong"):
        table[f"{name}_fraction"] = round(table[name] / len(results), 4) if results else 0.0
    table["spans_right_fraction"] = round(table["spans_right"] / spans, 4) if spans else 0.0
    return table


def measure(
    expected: Mapping[str, Row], root: Path, copies: Path, kind: str = "all", framework: str = ""
) -> dict[str, Any]:
    """The whole report as plain data.

    Args:
        expected: The rows by `owner/repo:path`.
        root: The folder of checkouts.
        copies: The folder that a row's `file` is relative to: a copy for those without a checkout.
        kind: One of `KINDS`.
        framework: One of `GROUPS`, part of a framework's name, or empty for all.
    """
    files: dict[str, list[Outcome]] = {}
    crashed: dict[str, str] = {}
    absent = []
    for key, row in expected.items():
        if not wanted(key, row, kind, framework):
            continue
        repo, _, inside = key.partition(":")
        places = (root / repo.replace("/", "__") / inside, copies / row.get("file", ""))
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            absent.append(key)
            continue
        output, failure = explain(path)
        if failure:
            crashed[key] = failure
        files[key] = outcomes(row, output, str(path))
    everything = [result for results in files.values() for result in results]
    return {
        **tally(everything),
        "files": len(files),
        "crashed": crashed,
        "absent": absent,
        "groups": {
            name: tally(
                result for key, results in files.items() if group(key, expected[key]) == name for result in results
            )
            for name in GROUPS
        },
        "not_in_vocabulary": sorted({result.name for result in everything} - NAMES.keys()),
        "facts": {
            name: tally(result for result in everything if result.name == name)
            for name, _ in Counter(result.name for result in everything).most_common()
        },
        "by_file": {
            key: {
                **tally(results),
                "outcomes": [
                    {
                        "fact": result.name,
                        "verdict": result.verdict,
                        "claimed_wrong": result.claimed,
                        "span_missed": result.span_expected and not result.span_right,
                        "expected": result.expected,
                        "expected_line": result.expected_line,
                        "ours": result.ours,
                        "ours_line": result.ours_line,
                        "origin": result.origin,
                    }
                    for result in results
                ],
            }
            for key, results in files.items()
        },
    }


def show(report: Mapping[str, Any], details: bool) -> None:
    """Print the tables."""
    width = max([len(key) for key in report["by_file"]] + [len(name) for name in report["facts"]] + [5])
    header = f"{'':{width}}" + "".join(f"{column:>14}" for column in COLUMNS)
    for title in ("facts", "by_file", "groups"):
        print(header)
        for name, row in report[title].items():
            print(f"{name:{width}}" + "".join(f"{row[column]:>14}" for column in COLUMNS))
            for item in row.get("outcomes", ()) if details else ():
                if item["verdict"] == "right" and item["span_missed"]:
                    print(
                        f"    line of {item['fact']}: expected {item['expected_line']}, ours {item['ours_line']}"
                        f" ({item['origin']}, {item['ours']!r})"
                    )
                if item["verdict"] != "right":
                    print(
                        f"    {item['verdict']:8}{'CLAIMED ' if item['claimed_wrong'] else ''}{item['fact']}:"
                        f" expected {item['expected']!r} (line {item['expected_line']}),"
                        f" ours {item['ours']!r} {item['origin']} (line {item['ours_line']})"
                    )
        print()
    print(f"{'total':{width}}" + "".join(f"{report[column]:>14}" for column in COLUMNS))
    for name, row in {"all": report, **report["groups"]}.items():
        print(
            f"{name}: right {row['right_fraction']:.1%} of {row['n']}, claimed but wrong"
            f" {row['claimed_wrong_fraction']:.1%}, spans right {row['spans_right_fraction']:.1%} of {row['spans_n']}"
        )
    print(f"{report['files']} files, {len(report['crashed'])} crashed, {len(report['absent'])} absent")
    for key, failure in report["crashed"].items():
        print(f"crashed: {key}: {failure}")
    for key in report["absent"]:
        print(f"absent: {key}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; exits 1 when vramlint crashed on a file."""
    parser = argparse.ArgumentParser(description="How right the extraction is, against hand-read facts of real files.")
    parser.add_argument("--expected", type=Path, required=True, help="the expected facts, JSON")
    parser.add_argument("--root", type=Path, required=True, help="folder of checkouts named owner__repo")
    parser.add_argument("--kind", choices=KINDS, default="all", help="scripts, configs or all")
    parser.add_argument("--framework", default="", help="base, frameworks, or part of a framework's name")
    parser.add_argument("--details", action="store_true", help="every fact that is not right")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    expected = json.loads(options.expected.read_text(encoding="utf-8"))
    report = measure(expected, options.root, options.expected.parent, options.kind, options.framework)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        show(report, options.details)
    return 1 if report["crashed"] else 0


if __name__ == "__main__":
    sys.exit(main())
