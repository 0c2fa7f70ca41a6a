"""Whether the ranks of a run differ, and into which kinds; what divides models is loaded for runs that are divided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from vramlint.job import Job
from vramlint.memory import data_parallel

if TYPE_CHECKING:
    from vramlint.memory.ranks import Kind

ON_RANKS = "megatron"
"""The model type of what one rank of Megatron holds."""


class _Divider(Protocol):
    """A module that divides one sort of run."""

    def divides(self, job: Job) -> bool:
        """Whether the job is that of a whole run, of which a rank has yet to be made."""

    def kinds(self, job: Job) -> Iterable[Kind]:
        """The kinds of its ranks."""


def is_divided(job: Job) -> bool:
    """Whether the job is that of a whole run, of which a rank has yet to be made."""
    if data_parallel.is_spread(job) and job.parallelism.rank is None:
        return True
    if job.parallelism.megatron is not None and job.model.model_type != ON_RANKS:
        return True
    return any(divider.divides(job) for divider in _dividers(job))


def kinds(job: Job) -> Iterable[Kind]:
    """The kinds of a divided job's ranks.

    Raises:
        NotFollowedError: the model cannot be divided like that.
        KeyError: its config lacks a dimension.
    """
    for divider in _dividers(job):
        if divider.divides(job):
            return divider.kinds(job)
    from vramlint.memory import ranks

    return ranks.kinds(job)


def _dividers(job: Job) -> Iterator[_Divider]:
    """What may divide the job."""
    parallelism = job.parallelism
    if parallelism.mesh is not None:
        from vramlint.memory import mesh_ranks, planned_ranks

        yield planned_ranks
        yield mesh_ranks
    if parallelism.sequence is not None:
        from vramlint.memory import sequence_ranks

        yield sequence_ranks
    if parallelism.neox is not None:
        from vramlint.memory import neox_ranks

        yield neox_ranks
