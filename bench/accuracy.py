"""How right the simulated peak is: against steps traced byte by byte from the real model code, and measured on GPUs.

    python bench/accuracy.py [--cases FILE.jsonl …] [--no-reserved] [--json] [--worst N]

Every row of the file carries its own model config, so models that vramlint has never seen count too. Figures are
fractions. Rows of architectures that the simulator does not know are only counted (`not_simulated`). Rows that
bench/gpu measured, by default those in bench/gpu/measured, have a table of their own (`measured`).
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

from bench import measured  # noqa: E402  the repository is not installed when benches run from a checkout
from bench.cases import job_of  # noqa: E402
from bench.gpu import record  # noqa: E402
from vramlint.estimate import Estimate  # noqa: E402
from vramlint.memory import simulate  # noqa: E402

DEFAULT_CASES = sorted((ROOT / "bench" / "data").glob("traced_*.jsonl"))
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row: prediction against trace. Errors are (predicted - traced) / traced."""

    id: str
    family: str
    error: float
    """Of the steady-state peak of allocated memory."""
    first_step_error: float
    """Of the first step's."""
    saved_error: float
    """Of what autograd keeps between forward and backward in the steady state."""
    phase_right: bool
    states_exact: bool
    """Parameter, gradient and optimizer-state bytes are equal."""
    reserved_error: float | None = None
    """Of the steady-state peak of reserved memory, where it was asked for."""
    unobserved_error: float | None = None
    """Of the steady-state peak of the same step without the tracer's dispatch mode, as the product simulates it."""
    blocks_error: float | None = None
    """Of the steady-state peak of what torch counts as allocated, blocks, where reserved memory was asked for."""


def outcomes(rows: Sequence[dict[str, Any]], *, reserved: bool) -> Iterator[Outcome | str]:
    """An outcome per simulated row, the family's name for every other."""
    for row in rows:
        family = row["config"].get("model_type", "?")
        job = job_of(row)
        estimate = simulate(job, reserved=reserved, observed=True)
        if estimate.method != "simulated":
            yield family
            continue
        unobserved = simulate(job, reserved=False)
        yield outcome(row, family, estimate, unobserved, reserved=reserved)


def outcome(row: dict[str, Any], family: str, estimate: Estimate, unobserved: Estimate, *, reserved: bool) -> Outcome:
    """One row against its estimates: of the step as it was traced, and as it runs by itself."""
    result = row["result"]
    first, steady = result["first_step"], result["steady_step"]
    states = (estimate.parameters, estimate.gradients, estimate.optimizer_states)
    traced = tuple(sum(result[key].values()) for key in ("parameter_bytes", "grad_bytes", "optimizer_state_bytes"))
    return Outcome(
        row["id"],
        family,
        error=_error(estimate.allocated, steady["peak"]),
        first_step_error=_error(max(phase.allocated for phase in estimate.first_step), first["peak"]),
        saved_error=_error(estimate.saved_activations, steady["saved_activations"]),
        phase_right=estimate.peak_phase == steady["peak_phase"],
        states_exact=states == traced,
        reserved_error=_error(estimate.reserved, steady["peak_reserved"]) if reserved else None,
        unobserved_error=_error(unobserved.allocated, steady["peak"]),
        blocks_error=_error(estimate.blocks, steady["peak_allocator_blocks"]) if reserved else None,
    )


def _error(predicted: int, traced: int) -> float:
    return (predicted - traced) / traced


def figures(found: Sequence[Outcome]) -> dict[str, float | int]:
    """The figures of a set of outcomes; `worst_under` is the largest underestimate, 0 if there is none."""
    named = {
        "n": len(found),
        **spread("", [outcome.error for outcome in found]),
        "phase_right": sum(outcome.phase_right for outcome in found) / len(found),
        "states_exact": sum(outcome.states_exact for outcome in found) / len(found),
        **spread("first_step_", [outcome.first_step_error for outcome in found]),
        "saved_median_error": statistics.median(abs(outcome.saved_error) for outcome in found),
    }
    held = [outcome.reserved_error for outcome in found if outcome.reserved_error is not None]
    blocks = [outcome.blocks_error for outcome in found if outcome.blocks_error is not None]
    named |= spread("reserved_", held) if held else {}
    alone = [outcome.unobserved_error for outcome in found if outcome.unobserved_error is not None]
    named |= spread("unobserved_", alone) if alone else {}
    return named | (spread("blocks_", blocks) if blocks else {})


def spread(prefix: str, errors: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and maximum of the absolute errors, and the largest underestimate."""
    ordered = sorted(map(abs, errors))
    return {
        f"{prefix}median_error": statistics.median(ordered),
        f"{prefix}p95_error": ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))],
        f"{prefix}max_error": ordered[-1],
        f"{prefix}worst_under": max(0.0, -min(errors)),
    }


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=Path, nargs="+", help="files of rows, traced or measured")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--reserved",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="play the allocator too, which is slower",
    )
    parser.add_argument("--worst", type=int, default=0, metavar="N", help="also list the N rows with the largest error")
    arguments = parser.parse_args()
    rows, on_gpus = read_rows(arguments.cases or [*DEFAULT_CASES, *record.measured_files()])
    compared = [measured.compare(row, reserved=arguments.reserved) for row in on_gpus]
    known: list[Outcome] = []
    unknown: defaultdict[str, int] = defaultdict(int)
    for outcome in outcomes(rows, reserved=arguments.reserved):
        if isinstance(outcome, str):
            unknown[outcome] += 1
        else:
            known.append(outcome)
    by_family = {name: [o for o in known if o.family == name] for name in sorted({o.family for o in known})}
    report: dict[str, Any] = figures(known) if known else {"n": 0}
    report["families"] = {name: figures(group) for name, group in by_family.items()}
    report["not_simulated"] = dict(sorted(unknown.items()))
    report["measured"] = measured.report_of(compared)
    if arguments.json:
        print(json.dumps(report))
    else:
        if known:
            _print(report)
        measured.show(report["measured"])
        for outcome in sorted(known, key=lambda o: -abs(o.error))[: arguments.worst]:
            print(f"{outcome.error:+.4%}  {outcome.id}")
        done = [one for one in compared if one.errors]
        for one in sorted(done, key=lambda one: -abs(one.errors["requested"]))[: arguments.worst]:
            print(f"{one.errors['requested']:+.4%}  {one.id} on {one.gpu}")
    return 0


def read_rows(paths: Sequence[Path]) -> tuple[list[Row], list[Row]]:
    """Traced rows, and those of GPUs, of which the last of an id counts."""
    rows = [row for path in paths for row in record.rows_of(path)]
    on_gpus = record.latest(row for row in rows if measured.is_measured(row))
    return [row for row in rows if not measured.is_measured(row)], list(on_gpus.values())


COLUMNS = ("n", "median_error", "p95_error", "max_error", "worst_under", "phase_right", "states_exact")
MORE_COLUMNS = ("first_step_p95_error", "first_step_max_error", "saved_median_error", "reserved_p95_error")


def _print(report: dict[str, Any]) -> None:
    columns = (*COLUMNS, *MORE_COLUMNS)
    heads = [column.removesuffix("_error").replace("first_step", "first") for column in columns]
    print(f"{'family':<16}" + "".join(f"{head:>14}" for head in heads))
    for name, row in [("all", report), *report["families"].items()]:
        cells = "".join(f"{row[c]:>14}" if c == "n" else f"{row[c]:>14.4%}" for c in columns if c in row)
        print(f"{name:<16}{cells}")
    alone = report["unobserved_max_error"], report["unobserved_worst_under"]
    print("the same steps without the tracer looking on: max {:.4%}, worst_under {:.4%}".format(*alone))
    if report["not_simulated"]:
        print("not simulated:", ", ".join(f"{name} {count}" for name, count in report["not_simulated"].items()))


if __name__ == "__main__":
    sys.exit(main())
