"""How right the counted floating-point operations are: against torch's FlopCounterMode over real models.

    python bench/flops.py [--cases FILE.jsonl] [--json] [--worst N]

`data/flops.jsonl` holds what `python -m bench.flop_counter` counted of a micro batch's forward and backward, which
includes what activation checkpointing computes again. Errors are (predicted - counted) / counted; what 6·N·D says
stands beside them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.accuracy import spread  # noqa: E402  the repository is not installed when benches run from a checkout
from bench.cases import job_of  # noqa: E402
from bench.gpu import record  # noqa: E402
from vramlint.memory import simulate  # noqa: E402
from vramlint.thumb.formulas import training_compute  # noqa: E402

CASES = ROOT / "bench" / "data" / "flops.jsonl"
Row = dict[str, Any]
GROUPED = {"convnext"}
"""Models of grouped convolutions, whose backward torch 2.13 counts as that of full ones (flop_counter.py,
conv_backward_flop takes `groups` and leaves it aside): only the forward is compared."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row: prediction against what was counted."""

    id: str
    counted: int
    error: float
    """Of forward and backward together."""
    forward_error: float
    backward_error: float
    thumb_error: float
    """Of 6·N·D."""


def outcome_of(row: Row) -> Outcome:
    """Simulate a row's micro batch."""
    estimate = simulate(job_of(row), reserved=False, observed=True)
    found: dict[str, int] = {"forward": 0, "backward": 0}
    for work in estimate.work:
        found["forward" if work.part == "forward" else "backward"] += work.flops
    counted = row["result"]
    if row["config"]["model_type"] in GROUPED:
        found["backward"] = counted["backward"] = 0
    total = counted["forward"] + counted["backward"]
    tokens = row["case"]["batch"] * row["case"]["seq"]
    return Outcome(
        row["id"],
        total,
        _error(sum(found.values()), total),
        _error(found["forward"], counted["forward"]),
        _error(found["backward"], counted["backward"]),
        _error(training_compute(counted["parameter_count"], tokens), total),
    )


def _error(predicted: int, counted: int) -> float:
    return (predicted - counted) / counted if counted else 0.0


def summary(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """What the bench prints first."""
    errors = [outcome.error for outcome in outcomes]
    return {
        "n": len(outcomes),
        **spread("", errors),
        "within_1_percent": sum(abs(error) <= 0.01 for error in errors) / len(errors),
        "thumb_median_error": spread("", [outcome.thumb_error for outcome in outcomes])["median_error"],
    }


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=Path, default=CASES)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worst", type=int, default=0, metavar="N", help="print the N rows with the largest errors")
    arguments = parser.parse_args()
    outcomes = [outcome_of(row) for row in record.rows_of(arguments.cases)]
    figures = summary(outcomes)
    if arguments.json:
        print(json.dumps({**figures, "rows": [asdict(outcome) for outcome in outcomes]}, indent=1))
        return 0
    for name, value in figures.items():
        print(f"{name:<20} {value:.4f}" if name != "n" else f"{name:<20} {value}")
    for outcome in sorted(outcomes, key=lambda one: -abs(one.error))[: arguments.worst]:
        print(
            f"{outcome.id:<28} {outcome.counted / 1e12:>9.2f} TFLOP {outcome.error:+8.2%} forward "
            f"{outcome.forward_error:+8.2%} backward {outcome.backward_error:+8.2%} 6·N·D {outcome.thumb_error:+8.2%}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
