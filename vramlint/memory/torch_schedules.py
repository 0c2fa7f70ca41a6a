"""In which order a rank of torch's pipelines runs its stages (torch 2.13 torch/distributed/pipelining/schedules.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from vramlint.memory.refusal import NotFollowedError

FORWARD, BACKWARD, INPUT, WEIGHT = "F", "B", "I", "W"
"""torch's letters for a forward, a whole backward, and one of the inputs and one of the weights that make it up."""
Action = tuple[str, int]
"""What is done, and the model chunk whose it is. Micro batches take turns in their order."""
Actions = Sequence[Action]
SINGLE = frozenset({"1f1b", "gpipe"})
"""Schedules of one stage a rank (PipelineScheduleSingle); the others have two unless the stages' sizes say more."""
V_SHAPED = frozenset({"zbvzerobubble", "dualpipev"})
"""Schedules whose first rank has the first and the last stage, the next one those beside, and so on."""
SPLIT = V_SHAPED | {"interleavedzerobubble"}
"""Schedules that divide backwards into those of the inputs and those of the weights."""


def plan(schedule: str, rank: int, ranks: int, chunks: int, batches: int) -> Actions:
    """What a rank does, of so many, with its model chunks and micro batches.

    Raises:
        NotFollowedError: a schedule that is not followed, or that does not take so many stages or micro batches.
    """
    written = _PLANS.get(schedule.lower())
    if written is None:
        raise NotFollowedError(f"the pipeline schedule {schedule}")
    if schedule.lower() in V_SHAPED and chunks != _SIDES:
        raise NotFollowedError(f"{schedule} of {chunks} stages a rank, which torch refuses,")
    return written(rank, ranks, chunks, batches)


_SIDES = 2
"""Chunks of a rank whose stages lie in a V."""


def _one_by_one(rank: int, ranks: int, chunks: int, batches: int) -> Actions:
    """Schedule1F1B."""
    del chunks
    if batches < ranks:
        raise NotFollowedError(f"1F1B of {batches} micro batches over {ranks} stages, which torch refuses,")
    warm = min(batches, ranks - rank)
    forward, backward = (FORWARD, 0), (BACKWARD, 0)
    return [forward] * warm + [backward, forward] * (batches - warm) + [backward] * warm


def _all_forwards(rank: int, ranks: int, chunks: int, batches: int) -> Actions:
    """ScheduleGPipe, and ScheduleLoopedBFS, which is the same for several chunks."""
    del rank, ranks
    forwards = [(FORWARD, chunk) for chunk in range(chunks) for _ in range(batches)]
    return forwards + [(BACKWARD, chunk) for chunk in reversed(range(chunks)) for _ in range(batches)]


def _interleaved(rank: int, ranks: int, chunks: int, batches: int) -> Actions:
    """ScheduleInterleaved1F1B, by _get_warmup_ops and _get_1f1b_rank_ops."""
    each = _round("Interleaved1F1B", ranks, batches)
    total = batches * chunks
    warm = min((chunks - 1) * each + 2 * (ranks - 1 - rank), total)
    forwards = [(FORWARD, step // each % chunks) for step in range(total)]
    backwards = [(BACKWARD, chunks - 1 - step // each % chunks) for step in range(total)]
    found = forwards[:warm]
    for step in range(total - warm):
        found += [forwards[warm + step], backwards[step]]
    return found + backwards[total - warm :]


def _interleaved_split(rank: int, ranks: int, chunks: int, batches: int) -> Actions:
    """ScheduleInterleavedZeroBubble: a rank begins with its backwards of weights after as many of inputs as its number.

    Those that are left over come at the end.
    """
    each = _round("InterleavedZeroBubble", ranks, batches)
    total = batches * chunks
    warm = min((chunks - 1) * each + ranks - 1 - rank, total)
    order = [chunks - 1 - step // each % chunks for step in range(total)]
    found = [(FORWARD, step // each % chunks) for step in range(warm)]
    for step in range(total):
        if warm + step < total:
            found.append((FORWARD, (warm + step) // each % chunks))
        found.append((INPUT, order[step]))
        if step >= rank:
            found.append((WEIGHT, order[step - rank]))
    return found + [(WEIGHT, chunk) for chunk in order[max(0, total - rank) :]]


def _round(schedule: str, ranks: int, batches: int) -> int:
    """Micro batches of which a chunk runs one after the other, before the next chunk's turn."""
    rounds = max(1, batches // ranks)
    if batches % rounds:
        raise NotFollowedError(f"{schedule} of {batches} micro batches over {ranks} ranks, which torch refuses,")
    return batches // rounds


def _in_a_v(rank: int, ranks: int, chunks: int, batches: int) -> Actions:
    """ScheduleZBVZeroBubble. It is made for as many micro batches as fill the pipeline; those too many are left out."""
    del chunks
    whole = max(2 * ranks - 1, batches)
    made: Counter[Action] = Counter()
    found: list[Action] = []

    def add(*actions: Action) -> None:
        for action in actions:
            if made[action] < batches:
                found.append(action)
            made[action] += 1

    down, up = ((FORWARD, 0), (INPUT, 0), (WEIGHT, 0)), ((FORWARD, 1), (INPUT, 1), (WEIGHT, 1))
    add(*[down[0]] * (2 * (ranks - rank) - 1))
    add(*[up[0], down[0]] * rank)
    add(*up * (ranks - rank))
    while made[up[0]] < made[down[0]] or made[down[0]] < whole:
        add(*down[made[down[0]] >= whole :], *up)
    add(*[down[1], up[1]] * rank)
    add(*down[1:] * (ranks - rank))
    add(*[up[2]] * (made[up[1]] - made[up[2]]))
    add(*[down[2]] * (made[down[1]] - made[down[2]]))
    return found


def _dual(rank: int, ranks: int, chunks: int, batches: int) -> Actions:
    """ScheduleDualPipeV: a forward and a backward that may overlap run one after the other."""
    if batches < chunks * ranks:
        stages = chunks * ranks
        raise NotFollowedError(f"DualPipeV of {batches} micro batches over {stages} stages, which torch refuses,")
    behind = ranks - rank - 1
    found: list[Action] = [(FORWARD, 0)] * (2 * behind) + [(FORWARD, 0), (FORWARD, 1)] * (rank + 1)
    found += [(INPUT, 1), (WEIGHT, 1), (FORWARD, 1)] * behind
    found += [(FORWARD, 0), (BACKWARD, 1), (FORWARD, 1), (BACKWARD, 0)] * (batches - 2 * ranks + rank + 1)
    found += [(BACKWARD, 1), (FORWARD, 1), (BACKWARD, 0)] * behind
    owed: list[int] = []

    def backward(chunk: int, *, whole: bool) -> None:
        found.append((BACKWARD if whole else INPUT, chunk))
        owed.extend([] if whole else [chunk])

    half, odd = (rank + 1) // 2, rank % 2 == 1
    for number in range(rank + 1):
        backward(1, whole=number < half or (number == half and not odd))
        backward(0, whole=number < half)
    for _ in range(behind):
        found += [(WEIGHT, owed.pop(0))] if owed else []
        backward(0, whole=False)
    return found + [(WEIGHT, chunk) for chunk in owed[: rank + 1]]


_PLANS: Mapping[str, Callable[[int, int, int, int], Actions]] = MappingProxyType(
    {
        "1f1b": _one_by_one,
        "gpipe": _all_forwards,
        "loopedbfs": _all_forwards,
        "interleaved1f1b": _interleaved,
        "interleavedzerobubble": _interleaved_split,
        "zbvzerobubble": _in_a_v,
        "dualpipev": _dual,
    }
)
"""Schedules by their names in lower case (get_schedule_class)."""
