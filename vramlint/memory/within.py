"""Runs that surely need more than some bytes, given up as soon as that shows.

Before a step is recorded its model states show; behind the first forward, what backward needs; before the update, the
gradients. None of these is more than the step's peak, which only the whole log tells.
"""

from __future__ import annotations

from vramlint.estimate import BEYOND, Estimate
from vramlint.job import Job
from vramlint.memory.data_parallel import is_replica
from vramlint.memory.device import outside
from vramlint.memory.holdings import total
from vramlint.memory.rank import Sharding
from vramlint.memory.recorder import Recorder
from vramlint.memory.zero_buckets import Buckets

_LOOKED_AT = ("backward", "optimizer")
"""Phases at whose beginning it is counted what is there."""


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
    """Records a step until it surely exceeds `limit` bytes beside the `beside` that stand.

    Raises:
        ExceededError: by `phase`, when it does.
    """

    __slots__ = ("_beside", "_limit", "_seen")

    def __init__(self, limit: int, beside: int) -> None:
        super().__init__()
        self._limit, self._beside = limit, beside
        self._seen: set[str] = set()

    def phase(self, name: str) -> None:
        """Start a block of another phase; what is there at the first beginning of some is counted."""
        if name in _LOOKED_AT and name not in self._seen:
            self._seen.add(name)
            found = self._beside + self._alive()
            if found > self._limit:
                raise ExceededError(found)
        super().phase(name)

    def _alive(self) -> int:
        """Bytes that are there in a later step, too, without what the allocator rounds them up by."""
        sizes, once = self.sizes, self.once
        return sum(
            block.repeat * sum([sizes[index] * count for index, count in block.events if index not in once])
            for block in self.blocks
        )


def recorder_of(job: Job, sharding: Sharding, limit: int | None) -> Recorder:
    """What records the run of one rank, as long as it may stay within `limit` bytes; None: to its end.

    Raises:
        ExceededError: it surely does not.
    """
    if limit is None:
        return Recorder()
    found = least(job, sharding)
    if found > limit:
        raise ExceededError(found)
    if job.parallelism.mesh is not None and job.parallelism.mesh.turns:
        return Recorder()  # what came and went between turns is taken out of its log
    return WatchedRecorder(limit, standing(job, sharding))


def exceeding(job: Job, error: ExceededError) -> Estimate:
    """The estimate of a run that was given up."""
    beside = outside(job)
    taken = sum(part.bytes for part in beside)
    allocated = error.nbytes - taken
    return Estimate(BEYOND, allocated, allocated, taken, "", (), (), outside_parts=beside)
