"""In which order a rank of torch's pipelines runs its stages (torch 2.13 torch/distributed/pipelining/schedules.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from vramlint.memory.refusal import NotFollowedError

Turn = tuple[int, tuple[int, ...]]
"""A backward: the model chunk whose it is, and how many forwards of each chunk await theirs, its own included."""
Actions = Sequence[tuple[bool, int]]
"""Whether it is a forward, and the model chunk."""
SINGLE = frozenset({"1f1b", "gpipe"})
"""Schedules of one stage a rank (PipelineScheduleSingle); the others have two unless the stages' sizes say more."""


def turns(schedule: str, rank: int, ranks: int, chunks: int, batches: int) -> tuple[Turn, ...]:
    """Those backwards of a rank that hold the most, in their order, the first of all among them.

    A backward is left out where another one of the same chunk has as many forwards of each chunk waiting, and beside
    the gradients of as many chunks.

    Raises:
        NotFollowedError: a schedule that is not followed, or that does not take so many micro batches.
    """
    plan = _PLANS.get(schedule.lower())
    if plan is None:
        raise NotFollowedError(f"the pipeline schedule {schedule}")
    alive = [0] * chunks
    graded: set[int] = set()
    found: list[tuple[Turn, frozenset[int]]] = []
    for forward, chunk in plan(rank, ranks, chunks, batches):
        if forward:
            alive[chunk] += 1
            continue
        found.append(((chunk, tuple(alive)), frozenset(graded)))
        alive[chunk] -= 1
        graded.add(chunk)
    return tuple(one for at, (one, beside) in enumerate(found) if not at or not _exceeded(at, one, beside, found))


def _exceeded(at: int, turn: Turn, beside: frozenset[int], found: Sequence[tuple[Turn, frozenset[int]]]) -> bool:
    """Whether another backward holds as much or more; of equal ones the first stays, unless it is the first of all."""
    for other, (found_turn, others) in enumerate(found):
        if other == at or found_turn[0] != turn[0] or not others >= beside:
            continue
        if all(more >= less for more, less in zip(found_turn[1], turn[1], strict=True)):
            equal = found_turn == turn and others == beside
            if not equal or 0 < other < at:
                return True
    return False


def _one_by_one(rank: int, ranks: int, chunks: int, batches: int) -> Actions:
    """Schedule1F1B."""
    del chunks
    if batches < ranks:
        raise NotFollowedError(f"1F1B of {batches} micro batches over {ranks} stages, which torch refuses,")
    warm = min(batches, ranks - rank)
    return [(True, 0)] * warm + [(False, 0), (True, 0)] * (batches - warm) + [(False, 0)] * warm


def _all_forwards(rank: int, ranks: int, chunks: int, batches: int) -> Actions:
    """ScheduleGPipe, and ScheduleLoopedBFS, which is the same for several chunks."""
    del rank, ranks
    forwards = [(True, chunk) for chunk in range(chunks) for _ in range(batches)]
    return forwards + [(False, chunk) for chunk in reversed(range(chunks)) for _ in range(batches)]


def _interleaved(rank: int, ranks: int, chunks: int, batches: int) -> Actions:
    """ScheduleInterleaved1F1B, by _get_warmup_ops and _get_1f1b_rank_ops."""
    rounds = max(1, batches // ranks)
    if batches % rounds:
        raise NotFollowedError(f"Interleaved1F1B of {batches} micro batches over {ranks} ranks, which torch refuses,")
    each, total = batches // rounds, batches * chunks
    warm = min((chunks - 1) * each + 2 * (ranks - 1 - rank), total)
    forwards = [(True, step // each % chunks) for step in range(total)]
    backwards = [(False, chunks - 1 - step // each % chunks) for step in range(total)]
    found = forwards[:warm]
    for step in range(total - warm):
        found += [forwards[warm + step], backwards[step]]
    return found + backwards[total - warm :]


_PLANS: Mapping[str, Callable[[int, int, int, int], Actions]] = MappingProxyType(
    {
        "1f1b": _one_by_one,
        "gpipe": _all_forwards,
        "loopedbfs": _all_forwards,
        "interleaved1f1b": _interleaved,
    }
)
"""Schedules by their names in lower case (get_schedule_class)."""
