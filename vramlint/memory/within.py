"""Runs that surely need more than some bytes, given up as soon as that shows.

Before a step is recorded its model states show; behind each of its phases, the highest point so far.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

from vramlint.estimate import BEYOND, Estimate
from vramlint.job import Job
from vramlint.memory.data_parallel import is_replica
from vramlint.memory.device import outside
from vramlint.memory.holdings import total
from vramlint.memory.rank import Sharding
from vramlint.memory.recorder import Block, Recorder
from vramlint.memory.summary import PHASES
from vramlint.memory.zero_buckets import Buckets

STATES = "optimizer states"
Reached = Callable[[], bool]


class ExceededError(Exception):
    """The tensors of a run, and what lies beside them, need at least so many bytes, which is too much."""

    def __init__(self, nbytes: int) -> None:
        super().__init__(f"at least {nbytes} bytes")
        self.nbytes = nbytes


def standing(job: Job, sharding: Sharding) -> int:
    """Bytes of one rank that are there all the time, and outside torch."""
    return total((*sharding.persistent, *sharding.states)) + sum(part.bytes for part in outside(job))


def least(job: Job, sharding: Sharding) -> int:
    """Bytes that are there during the update of one rank, at the least, and outside torch.

    What an update by shards takes lies beside the gradients of ZeRO's partition.
    """
    found = standing(job, sharding)
    if sharding.whole or job.objective.kind != "training" or is_replica(job):
        return found
    units = sharding.units
    own = units.own if isinstance(units, Buckets) else 0
    return found + own + total(sharding.optimizer)


class WatchedRecorder(Recorder):
    """Records a step until it surely exceeds `limit` bytes, of which `beside` stand.

    `states` bytes of them count only when a backward is over behind which all parameters were `reached`: where some are
    not, the step is recorded to its end. None: all are.

    Raises:
        ExceededError: by `phase`, when it does.
    """

    __slots__ = ("_alive", "_beside", "_counted", "_limit", "_reached", "_states", "_top")

    def __init__(self, limit: int, beside: int, states: int = 0, reached: Reached | None = None) -> None:
        super().__init__()
        self._limit: int | None = limit
        self._reached: Reached | None = reached
        self._states = states if reached is not None else 0
        self._beside = beside - self._states
        self._alive = self._top = self._counted = 0

    def phase(self, name: str) -> None:
        """Start a block of another phase; the highest point of those before it is known."""
        if self._limit is not None:
            new = self.blocks[self._counted :]
            for block in new:
                self._count(block)
            self._counted += len(new)
            if self._reached is not None and any(block.phase.endswith("backward") for block in new):
                self._beside += self._states
                self._limit = self._limit if self._reached() else None
                self._reached = None
        if self._limit is not None and self._beside + self._top > self._limit:
            raise ExceededError(self._beside + self._top)
        super().phase(name)

    def _count(self, block: Block) -> None:
        """What a later step has in a block, too, without what the allocator rounds it up by: as a timeline does."""
        sizes, once = self.sizes, self.once
        levels = list(accumulate([sizes[index] * count for index, count in block.events if index not in once]))
        if not levels:
            return
        net, highest = levels[-1], max(levels)
        if block.phase in PHASES:
            self._top = max(self._top, self._alive + max(0, net * (block.repeat - 1)) + highest)
        self._alive += net * block.repeat


def recorder_of(job: Job, sharding: Sharding, limit: int | None, reached: Reached | None = None) -> Recorder:
    """What records the run of one rank.

    Args:
        job: its job.
        sharding: what it holds.
        limit: bytes within which it has to stay to be recorded to its end; None: it is in any case.
        reached: whether all its parameters got gradients, where some may not, of which the states are then not there.

    Raises:
        ExceededError: it surely exceeds the limit.
    """
    if limit is None:
        return Recorder()
    states = total(tensors for tensors in (*sharding.persistent, *sharding.states) if tensors.component == STATES)
    found = least(job, sharding) - (states if reached is not None else 0)
    if found > limit:
        raise ExceededError(found)
    if job.parallelism.mesh is not None and job.parallelism.mesh.turns:
        return Recorder()  # what came and went between turns is taken out of its log
    return WatchedRecorder(limit, standing(job, sharding), states, reached)


def exceeding(job: Job, error: ExceededError) -> Estimate:
    """The estimate of a run that was given up."""
    beside = outside(job)
    taken = sum(part.bytes for part in beside)
    allocated = error.nbytes - taken
    return Estimate(BEYOND, allocated, allocated, taken, "", (), (), outside_parts=beside)
