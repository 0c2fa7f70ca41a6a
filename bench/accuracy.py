"""How right the simulated peak is: against steps traced byte by byte from the real model code.

    python bench/accuracy.py [--cases FILE.jsonl …] [--reserved] [--json] [--worst N]

Every row of the file carries its own model config, so models that vramlint has never seen count too. Figures are
fractions. Rows of architectures that the simulator does not know are only counted (`not_simulated`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.cases import job_of  # noqa: E402  the repository is not installed when benches run from a checkout
from vramlint.memory import simulate  # noqa: E402

DEFAULT_CASES = sorted((ROOT / "bench" / "data").glob("traced_*.jsonl"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row: prediction against trace."""

    id: str
    family: str
    error: float
    """(predicted - traced) / traced of the steady-state peak of allocated memory."""
    phase_right: bool
    states_exact: bool
    """Parameter, gradient and optimizer-state bytes are equal."""
    reserved_error: float
    """(predicted - traced) / traced of the steady-state peak of reserved memory; 0 when it was not asked for."""


def outcomes(rows: Sequence[dict[str, Any]], *, reserved: bool) -> Iterator[Outcome | str]:
    """An outcome per simulated row, the family's name for every other."""
    for row in rows:
        family = row["config"].get("model_type", "?")
        estimate = simulate(job_of(row), reserved=reserved)
        if estimate.method != "simulated":
            yield family
            continue
        result = row["result"]
        steady = result["steady_step"]
        states = (estimate.parameters, estimate.gradients, estimate.optimizer_states)
        traced = tuple(sum(result[key].values()) for key in ("parameter_bytes", "grad_bytes", "optimizer_state_bytes"))
        error = (estimate.allocated - steady["peak"]) / steady["peak"]
        held = (estimate.reserved - steady["peak_reserved"]) / steady["peak_reserved"] if reserved else 0.0
        yield Outcome(row["id"], family, error, estimate.peak_phase == steady["peak_phase"], states == traced, held)


def figures(found: Sequence[Outcome]) -> dict[str, float | int]:
    """The figures of a set of outcomes; `worst_under` is the largest underestimate, 0 if there is none."""
    errors = sorted(abs(outcome.error) for outcome in found)
    return {
        "n": len(found),
        "median_error": statistics.median(errors),
        "p95_error": errors[min(len(errors) - 1, int(0.95 * len(errors)))],
        "max_error": errors[-1],
        "worst_under": max(0.0, -min(outcome.error for outcome in found)),
        "phase_right": sum(outcome.phase_right for outcome in found) / len(found),
        "states_exact": sum(outcome.states_exact for outcome in found) / len(found),
    }


def reserved_figures(found: Sequence[Outcome]) -> dict[str, float]:
    """The same for the peak of reserved memory, the caching allocator's segments."""
    errors = sorted(abs(outcome.reserved_error) for outcome in found)
    return {
        "reserved_median_error": statistics.median(errors),
        "reserved_p95_error": errors[min(len(errors) - 1, int(0.95 * len(errors)))],
    }


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=Path, nargs="+", default=DEFAULT_CASES, help="files of rows of traced steps")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--reserved", action="store_true", help="play the allocator too: slower")
    parser.add_argument("--worst", type=int, default=0, metavar="N", help="also list the N rows with the largest error")
    arguments = parser.parse_args()
    rows = [
        json.loads(line)
        for path in arguments.cases
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    known: list[Outcome] = []
    unknown: defaultdict[str, int] = defaultdict(int)
    for outcome in outcomes(rows, reserved=arguments.reserved):
        if isinstance(outcome, str):
            unknown[outcome] += 1
        else:
            known.append(outcome)
    by_family = {name: [o for o in known if o.family == name] for name in sorted({o.family for o in known})}
    report: dict[str, Any] = figures(known) if known else {"n": 0}
    if known and arguments.reserved:
        report |= reserved_figures(known)
    report["families"] = {name: figures(group) for name, group in by_family.items()}
    report["not_simulated"] = dict(sorted(unknown.items()))
    if arguments.json:
        print(json.dumps(report))
    else:
        _print(report)
        for outcome in sorted(known, key=lambda o: -abs(o.error))[: arguments.worst]:
            print(f"{outcome.error:+.4%}  {outcome.id}")
    return 0


def _print(report: dict[str, Any]) -> None:
    columns = ("n", "median_error", "p95_error", "max_error", "worst_under", "phase_right", "states_exact")
    print(f"{'family':<12}" + "".join(f"{column:>14}" for column in columns))
    for name, row in [("all", report), *report["families"].items()]:
        cells = "".join(f"{row[c]:>14}" if c == "n" else f"{row[c]:>14.4%}" for c in columns if c in row)
        print(f"{name:<12}{cells}")
    for name in ("reserved_median_error", "reserved_p95_error"):
        if name in report:
            print(f"{name} {report[name]:.2%}")
    if report["not_simulated"]:
        print("not simulated:", ", ".join(f"{name} {count}" for name, count in report["not_simulated"].items()))


if __name__ == "__main__":
    sys.exit(main())
