"""How right vramlint is against GPU memory figures that other people measured on real GPUs and published.

    python bench/published.py [--rows FILE.toml] [--tsv FILE.tsv --root DIR] [--json] [--worst N]

Every figure is compared with the one of ours that means the same: `allocated` and `active` with the peak of allocated
memory, `reserved` with the allocator's segments, `nvidia-smi` with segments and what lies outside of torch. Where a
source does not say what it read, and in which gigabytes, the error is the distance between its range and the range of
ours. A run that fitted, or ran out of memory, is held against the check that `vramlint` makes: does it exceed, is it
close, does it fit.

A row that does not say enough, or something that is not simulated, is skipped under its reason.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.published_outcomes import (  # noqa: E402  the repository may not be installed
    Outcome,
    outcome_of,
    outcome_of_figure,
)
from bench.published_tables import figures_of_table  # noqa: E402

DEFAULT_ROWS = ROOT / "bench" / "data" / "published.toml"
Report = dict[str, Any]
COLUMNS = (
    *("n", "mean_error", "max_error", "all_n", "all_mean_error", "all_max_error", "ranges", "within"),
    *("verdicts", "verdict_right", "false_fits"),
)
"""`all_…` are of rows with a figure of ours that is no wide range; of those that are, `within` is the part in which
the row's figure lies."""


def report_of(outcomes: Sequence[Outcome]) -> Report:
    """The figures of all groups, what was skipped and which rows miss by more than they may."""
    groups: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.group].append(outcome)
    verdicts = [outcome for outcome in outcomes if outcome.verdict]
    figures = {name: group_figures(members) for name, members in sorted(groups.items())}
    return {
        "groups": {name: row for name, row in figures.items() if row["all_n"] or row["ranges"] or row["verdicts"]},
        "verdicts": len(verdicts),
        "verdict_right": _mean([outcome.right for outcome in verdicts]),
        "false_fits": sum(outcome.false_fit for outcome in verdicts),
        "skipped": _reasons(outcomes),
        "skipped_by_group": {name: _reasons(members) for name, members in sorted(groups.items()) if _reasons(members)},
        "misses": [
            {"id": outcome.id, "error": outcome.error, "tol": outcome.tolerance}
            for outcome in outcomes
            if outcome.error is not None and abs(outcome.error) > outcome.tolerance
        ],
    }


def group_figures(members: Iterable[Outcome]) -> Report:
    """One group: exact rows (allocated memory, high confidence), all rows with a figure, wide ranges, verdicts."""
    members = list(members)
    known = [abs(outcome.error) for outcome in members if outcome.error is not None and not outcome.ranged]
    exact = [abs(outcome.error) for outcome in members if outcome.error is not None and outcome.exact]
    ranged = [outcome.error == 0 for outcome in members if outcome.ranged]
    verdicts = [outcome for outcome in members if outcome.verdict]
    figures: Report = {"n": len(exact), "all_n": len(known), "ranges": len(ranged), "verdicts": len(verdicts)}
    if exact:
        figures |= {"mean_error": _mean(exact), "max_error": max(exact)}
    if known:
        figures |= {"all_mean_error": _mean(known), "all_max_error": max(known)}
    if ranged:
        figures["within"] = _mean(ranged)
    if verdicts:
        figures["verdict_right"] = _mean([outcome.right for outcome in verdicts])
        figures["false_fits"] = sum(outcome.false_fit for outcome in verdicts)
    return figures


def _reasons(outcomes: Iterable[Outcome]) -> dict[str, int]:
    return dict(Counter(outcome.skipped for outcome in outcomes if outcome.skipped).most_common())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def show(report: Report, outcomes: Sequence[Outcome], worst: int) -> None:
    """Print the tables."""
    print(f"{'group':<12}" + "".join(f"{column:>15}" for column in COLUMNS))
    for name, row in report["groups"].items():
        print(f"{name:<12}" + "".join(f"{_cell(row.get(column)):>15}" for column in COLUMNS))
    print(
        f"\nverdicts: {report['verdicts']}, right {report['verdict_right']:.1%}, fits that ran out of memory:"
        f" {report['false_fits']}"
    )
    print("\nmisses by more than the row's tolerance")
    for miss in sorted(report["misses"], key=lambda miss: -abs(miss["error"])):
        print(f"{miss['error']:+8.1%}  (±{miss['tol']:.0%})  {miss['id']}")
    for outcome in outcomes:
        if outcome.verdict and not outcome.right:
            print(f"{outcome.verdict:>8}  ({outcome.happened})  {outcome.id}")
    print(f"\nskipped: {sum(report['skipped'].values())}")
    for group, reasons in report["skipped_by_group"].items():
        print(f"{group}: {sum(reasons.values())}")
        for reason, count in reasons.items():
            print(f"{count:5}  {reason}")
    if worst:
        print("\nworst")
        known = [outcome for outcome in outcomes if outcome.error is not None]
        for outcome in sorted(known, key=lambda outcome: -abs(outcome.error or 0.0))[:worst]:
            print(f"{outcome.error:+8.2%}  {outcome.metric:<10}  {outcome.confidence:<6}  {outcome.id}")


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.2%}"


def outcomes_of(options: argparse.Namespace) -> list[Outcome]:
    """The outcomes of the rows that the command line names."""
    if options.tsv is not None:
        return [
            outcome_of_figure(figure) for figure in figures_of_table(options.tsv, options.root or options.tsv.parent)
        ]
    rows: list[Mapping[str, Any]] = tomli.loads(options.rows.read_text(encoding="utf-8"))["row"]
    return [outcome_of(row) for row in rows]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="How right vramlint is against published measurements.")
    parser.add_argument("--rows", type=Path, default=DEFAULT_ROWS, help="rows of measurements, TOML")
    parser.add_argument("--tsv", type=Path, help="measurements with configs beside them, TSV, instead of --rows")
    parser.add_argument("--root", type=Path, help="folder that the configs of --tsv are relative to")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--worst", type=int, default=0, metavar="N", help="also list the N rows with the largest error")
    options = parser.parse_args(arguments)
    outcomes = outcomes_of(options)
    report = report_of(outcomes)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        show(report, outcomes, options.worst)
    return 0


if __name__ == "__main__":
    sys.exit(main())
