"""The memory model, each job simulated once: the launchers of a project start much that is alike."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from vramlint.estimate import BEYOND, Estimate
from vramlint.job import Job

if TYPE_CHECKING:
    from vramlint.memory import Simulation
    from vramlint.memory.retraced import Passes

MOST_KEPT = 4096
"""Estimates that are kept; a project has fewer."""
MOST_EVENTS = 200_000
"""Events of traced runs that are kept: 10 MB."""


def _as_simulated(job: Job) -> Job:
    """The job without what the memory model does not look at: rows count as full, whatever fills them."""
    return replace(job, batch=replace(job.batch, packing=False, varies=False))


def _make_room(kept: MutableMapping[Any, Estimate]) -> None:
    if len(kept) >= MOST_KEPT:
        kept.clear()


class Simulator:
    """Simulates jobs and remembers what came of it."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bool], Estimate] = {}
        self._beyond: dict[str, Estimate] = {}
        """What was given up."""
        self._traced: dict[str, Simulation] = {}
        """The runs traced last: what is estimated without the allocator is often wanted with it next."""
        self._events = 0
        self._passes: Passes | None = None

    def __call__(self, job: Job, *, reserved: bool = True, log: bool = False, limit: int | None = None) -> Estimate:
        """Peak memory of one GPU.

        Args:
            job: the job.
            reserved: with the caching allocator's segments, which take most of the time.
            log: with the log of its step, which is not kept.
            limit: bytes beyond which an estimate without the allocator need not be more than a lower bound.
        """
        job = _as_simulated(job)
        key = repr(job)  # its mappings are not hashable
        if log:
            return self._trace(job, key).estimate(reserved=reserved, log=True)
        if limit is not None and not reserved and (key, reserved) not in self._kept and key not in self._traced:
            return self._within(job, key, limit)
        if (key, reserved) not in self._kept:
            _make_room(self._kept)
            self._kept[key, reserved] = self._trace(job, key).estimate(reserved=reserved)
        return self._kept[key, reserved]

    def _within(self, job: Job, key: str, limit: int) -> Estimate:
        """The estimate without the allocator, given up where the job surely exceeds the limit."""
        known = self._beyond.get(key)
        if known is not None and known.device_high > limit:
            return known
        simulation = self._followed(job, limit)
        found = simulation.estimate(reserved=False)
        if found.method == BEYOND:
            _make_room(self._beyond)
            self._beyond[key] = found
        else:
            self._keep(key, simulation)
            _make_room(self._kept)
            self._kept[key, False] = found
        return found

    def _trace(self, job: Job, key: str) -> Simulation:
        """The run of a job, kept for a while."""
        found = self._traced.get(key)
        if found is None:
            found = self._followed(job)
            self._keep(key, found)
        return found

    def _followed(self, job: Job, limit: int | None = None) -> Simulation:
        """The run of a job, as far as a limit wants it followed."""
        from vramlint.memory import trace
        from vramlint.memory.retraced import Passes

        self._passes = self._passes or Passes()
        return trace(job, limit=limit, passes=self._passes)

    def _keep(self, key: str, found: Simulation) -> None:
        self._events += found.events
        while self._traced and self._events > MOST_EVENTS:
            oldest = next(iter(self._traced))
            self._events -= self._traced.pop(oldest).events
        self._traced[key] = found
