"""The memory model, each job simulated once: the launchers of a project start much that is alike."""

from __future__ import annotations

from vramlint.estimate import Estimate
from vramlint.job import Job

MOST_KEPT = 4096
"""Estimates that are kept; a project has fewer."""


class Simulator:
    """Simulates jobs and remembers what came of it."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bool], Estimate] = {}

    def __call__(self, job: Job, *, reserved: bool = True, log: bool = False) -> Estimate:
        """Peak memory of one GPU.

        Args:
            job: the job.
            reserved: with the caching allocator's segments, which take most of the time.
            log: with the log of its step, which is not kept.
        """
        from vramlint.memory import simulate

        if log:
            return simulate(job, reserved=reserved, log=True)
        key = (repr(job), reserved)  # its mappings are not hashable
        if key not in self._kept:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[key] = simulate(job, reserved=reserved)
        return self._kept[key]
