"""The memory model, each job simulated once: the launchers of a project start much that is alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from vramlint.estimate import Estimate
from vramlint.job import Job

if TYPE_CHECKING:
    from vramlint.memory import Simulation

MOST_KEPT = 4096
"""Estimates that are kept; a project has fewer."""
MOST_EVENTS = 200_000
"""Events of traced runs that are kept: 10 MB."""


def _as_simulated(job: Job) -> Job:
    """The job without what the memory model does not look at: rows count as full, whatever fills them."""
    return replace(job, batch=replace(job.batch, packing=False, varies=False))


class Simulator:
    """Simulates jobs and remembers what came of it."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bool], Estimate] = {}
        self._traced: dict[str, Simulation] = {}
        """The runs traced last: what is estimated without the allocator is often wanted with it next."""
        self._events = 0

    def __call__(self, job: Job, *, reserved: bool = True, log: bool = False) -> Estimate:
        """Peak memory of one GPU.

        Args:
            job: the job.
            reserved: with the caching allocator's segments, which take most of the time.
            log: with the log of its step, which is not kept.
        """
        job = _as_simulated(job)
        key = repr(job)  # its mappings are not hashable
        if log:
            return self._trace(job, key).estimate(reserved=reserved, log=True)
        if (key, reserved) not in self._kept:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[key, reserved] = self._trace(job, key).estimate(reserved=reserved)
        return self._kept[key, reserved]

    def _trace(self, job: Job, key: str) -> Simulation:
        """The run of a job, kept for a while."""
        from vramlint.memory import trace

        found = self._traced.get(key)
        if found is None:
            found = trace(job)
            self._events += found.events
            while self._traced and self._events > MOST_EVENTS:
                oldest = next(iter(self._traced))
                self._events -= self._traced.pop(oldest).events
            self._traced[key] = found
        return found
