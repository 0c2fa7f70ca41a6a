"""What changes promise: pairs of traced steps of which one is the other after a change that plans make."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench.cases import job_of
from vramlint.catalog.gpus import find_gpu
from vramlint.fixes.axes import ALLOWANCES, axes_of
from vramlint.job import Gpu, Job
from vramlint.memory import simulate

DATA = Path(__file__).resolve().parent / "data"
MOVES = DATA / "moves.jsonl"
"""Steps traced for this: each is another one after a change that plans make."""
CARD = "h100"
"""On which the changes are asked whether they apply; memory does not depend on it here."""
WITHIN = 0.02


class Pair(NamedTuple):
    """Two traced steps, one change apart; bytes."""

    before: str
    after: str
    change: str
    traced: int
    """By how much the peak of the second differs from that of the first."""
    promised: int

    @property
    def error(self) -> float:
        """Of the promise, as a part of the traced difference."""
        return abs(self.promised - self.traced) / max(1, abs(self.traced))


def pairs(paths: Iterable[Path] | None = None) -> Iterator[Pair]:
    """All pairs in files of traced rows (all there are), each change as its move makes it of the first job."""
    files = [MOVES, *sorted(DATA.glob("traced_*.jsonl"))] if paths is None else paths
    rows = [json.loads(line) for path in files for line in path.read_text("utf-8").splitlines()]
    jobs = [(row, job_of(row)) for row in rows]
    known = {repr(job): row for row, job in jobs}
    card = find_gpu(CARD)
    if not isinstance(card, Gpu):
        raise LookupError(CARD)
    for row, job in jobs:
        for axis in axes_of(job, ALLOWANCES):
            for option in axis.options:
                changed = option.move.change(job) if option.move.applies(job, card) else job
                other = known.get(repr(changed)) if changed is not job else None
                if other is not None and other["versions"] == row["versions"]:
                    traced = _peak(other) - _peak(row)
                    yield Pair(row["id"], other["id"], option.move.name, traced, _simulated(changed) - _simulated(job))


def _peak(row: dict[str, Any]) -> int:
    return int(row["result"]["steady_step"]["peak"])


def _simulated(job: Job) -> int:
    return simulate(job, reserved=False, observed=True).allocated


def deltas() -> dict[str, Any]:
    """How far promises and traced differences are apart."""
    found = list(pairs())
    return {
        "n": len(found),
        "within": sum(pair.error <= WITHIN for pair in found),
        "max_error": max(pair.error for pair in found),
        "changes": dict(Counter(pair.change for pair in found).most_common()),
        "wrong": [list(pair) for pair in found if pair.error > WITHIN],
    }
