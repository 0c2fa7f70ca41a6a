"""The search for plans that fit: against all plans there are, against traced steps, and over real files.

    python bench/fit.py [--json] [--every N]        # the search against exhaustive enumeration
    python bench/fit.py [--json] --deltas           # what changes promise against what traced steps differ by
    python bench/fit.py [--json] --root DIR [--list FILE] [--allow-all] [--gpus rtx3090,h100]
    python bench/fit.py [--json] --root DIR [--list FILE] --walls     # seconds of whole processes

The first one takes the jobs of `fit_jobs.py` that do not fit (every N-th), simulates all sets of changes on as many
axes as leave no more than 96 of them, and says how often the search's first plan is the best one by the same order,
and how many steps it simulated in how much time. The second one pairs traced steps of which one is the other after a
change. The third one makes every plan of every file under a folder, or of those that a list names, a line each and
relative to the folder, and reads the files again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:  # run as a script: `bench` is found beside this file's folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.fit_deltas import deltas
from bench.fit_files import found_under, of_files, walls
from bench.fit_jobs import GPUS, Subject, subjects
from bench.projects import listed
from vramlint.estimate import Estimate
from vramlint.fixes.axes import Axis, axes_of
from vramlint.fixes.costs import Cost, by_result
from vramlint.fixes.search import Point, Search
from vramlint.job import Job
from vramlint.memory import simulate, trace

HEADROOM = 0.95
SLOWEST = 10
"""Slow files that are named."""
MOST_SETS = 96
"""Sets of changes of a job that are all simulated."""


@dataclass(frozen=True)
class Comparison:
    """One job: the search beside the enumeration."""

    name: str
    sets: int
    """Sets of changes that go together."""
    fitting: int
    simulated: int
    """Steps that the search simulated to their end."""
    milliseconds: float
    same: bool
    """It found a best plan, or none where there is none."""
    found: str
    best: str


def tensors(job: Job) -> Estimate:
    """The estimate without the allocator."""
    return simulate(job, reserved=False)


def within(job: Job, limit: int) -> Estimate:
    """The same, given up where the job surely needs more than `limit` bytes."""
    return trace(job, limit=limit).estimate(reserved=False)


def search_for(subject: Subject, axes: Sequence[Axis]) -> Search:
    """The search of a job's plans."""
    return Search(subject.job, subject.gpu, axes, tensors, int(HEADROOM * subject.gpu.usable_bytes))


def some_axes(subject: Subject, turn: int, most: int) -> tuple[Axis, ...]:
    """As many axes as leave no more than `most` sets of changes; which ones are left out goes by turns."""
    axes = axes_of(subject.job, ())
    for axis in [*axes[turn % len(axes) :], *axes[: turn % len(axes)]]:
        if sum(1 for _ in every(search_for(subject, axes))) <= most:
            break
        axes = tuple(other for other in axes if other is not axis)
    return axes


def every(search: Search) -> Iterator[Point]:
    """All sets of changes that go together."""
    points: list[Point] = [()]
    rest = search.origin
    for index, axis in enumerate(search.axes, start=1):
        longer = [(*point, value) for point in points for value in range(len(axis.options) + 1)]
        points = [point for point in longer if search.job((*point, *rest[index:])) is not None]
    yield from points


def compare(subject: Subject, turn: int, most: int = MOST_SETS) -> Comparison | None:
    """The search of one job beside all sets of changes; None where the job fits or is not simulated."""
    before = tensors(subject.job)
    if before.method != "simulated" or before.device_high <= HEADROOM * subject.gpu.usable_bytes:
        return None
    axes = some_axes(subject, turn, most)
    whole, search = search_for(subject, axes), search_for(subject, axes)
    search.within = within
    begun = time.process_time()
    found = next(search.best(by_result), None)
    spent = time.process_time() - begun
    points = list(every(whole))
    whole.most = len(points) + 1
    fitting = [point for point in points if whole.fits(point)]
    costs = {point: whole.counted(point) for point in fitting}
    best = min(fitting, key=lambda point: by_result(costs[point]), default=None)
    same = found is best if found is None or best is None else _as_good(costs.get(found), costs[best])
    return Comparison(
        subject.name, len(points), len(fitting), len(search.simulated), 1000 * spent, same,
        _words(search, found), _words(whole, best),
    )  # fmt: skip


def _as_good(cost: Cost | None, best: Cost) -> bool:
    """Equal in all but what lies within one step of the order's rounding of time."""
    return cost is not None and by_result(cost)[:4] == by_result(best)[:4]


def _words(search: Search, point: Point | None) -> str:
    if point is None:
        return "nothing"
    return ", ".join(option.move.name for option in search.options(point)) or "as it is"


def _searched(every_nth: int) -> dict[str, Any]:
    chosen = list(subjects())[::every_nth]
    rows = [row for turn, subject in enumerate(chosen) if (row := compare(subject, turn)) is not None]
    times = sorted(row.milliseconds for row in rows)
    counts = sorted(row.simulated for row in rows)
    return {
        "n": len(rows),
        "same": sum(row.same for row in rows),
        "with_plan": sum(row.fitting > 0 for row in rows),
        "sets_median": statistics.median(row.sets for row in rows),
        "sets_max": max(row.sets for row in rows),
        "simulated_median": statistics.median(counts),
        "simulated_max": counts[-1],
        "milliseconds_median": statistics.median(times),
        "milliseconds_p95": times[int(0.95 * (len(times) - 1))],
        "different": [f"{row.name}: {row.found}; best: {row.best}" for row in rows if not row.same],
        "rows": [[row.name, row.sets, row.simulated, round(row.milliseconds), row.best] for row in rows],
    }


def _over_files(paths: Sequence[Path], gpus: Sequence[str], *, everything: bool) -> dict[str, Any]:
    tally = of_files(paths, gpus, everything=everything)
    return {
        "jobs": dict(tally.statuses),
        "plans": tally.plans,
        "complete": tally.complete,
        "partly": tally.partly,
        "by_hand": tally.by_hand,
        "kept": tally.kept,
        "first_plans": dict(tally.changes.most_common()),
        **_seconds(tally.seconds),
        "broken": tally.broken,
        "crashed": tally.crashed,
        "each": tally.each,
    }


def _seconds(every: Sequence[float]) -> dict[str, float]:
    times = sorted(every)
    return {
        "seconds_median": statistics.median(times),
        "seconds_p95": times[int(0.95 * (len(times) - 1))],
        "seconds_max": times[-1],
    }


def _walls(paths: Sequence[Path], gpu: str) -> dict[str, Any]:
    found = walls(paths, gpu)
    kinds = {
        "": [wall.seconds for wall in found.values()],
        "first_answer_": [wall.first for wall in found.values()],
        "longest_wait_": [wall.longest for wall in found.values()],
        "cpu_": [wall.cpu for wall in found.values()],
    }
    report: dict[str, Any] = {"n": len(found)}
    for kind, times in kinds.items():
        report[f"{kind}under_one"] = sum(seconds < 1 for seconds in times)
        report |= {f"{kind}{name}": value for name, value in _seconds(times).items()}
    return report | {"each": {path: wall.longest for path, wall in found.items()}}


def main() -> int:
    """Print a table, or one object. Exits with 1 where a plan broke its promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--every", type=int, default=1, metavar="N")
    parser.add_argument("--deltas", action="store_true")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--list", type=Path)
    parser.add_argument("--walls", action="store_true")
    parser.add_argument("--allow-all", action="store_true")
    parser.add_argument("--gpus", default=",".join(GPUS))
    options = parser.parse_args()
    if options.root is not None:
        root = options.root.resolve()
        names = listed(options.list, root) if options.list is not None else ()
        paths = [root / project / path for project, path in names] or list(found_under(root))
        gpus = options.gpus.split(",")
        found = _walls(paths, gpus[0]) if options.walls else _over_files(paths, gpus, everything=options.allow_all)
    else:
        found = deltas() if options.deltas else _searched(options.every)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            if isinstance(value, dict) and name == "each":
                for path, seconds in sorted(value.items(), key=lambda item: -item[1])[:SLOWEST]:
                    print(f"  {seconds:.2f} s {path}")
            elif isinstance(value, list):
                print(f"{name}: {len(value)}", *(f"  {item}" for item in value), sep="\n")
            else:
                print(f"{name}: {value}")
    return 1 if found.get("broken") or found.get("crashed") or found.get("wrong") else 0


if __name__ == "__main__":
    sys.exit(main())
