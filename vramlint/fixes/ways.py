"""Which plans are shown: the best one, and those that are better in something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Generic, TypeVar

from msgspec import Struct

from vramlint.fixes.axes import BASE, NUMERICS, STORAGE, TRAINED
from vramlint.fixes.costs import Cost, by_edits, by_result, by_time
from vramlint.fixes.search import Point, Search

MOST_PLANS = 4
TRIES = 3
"""Plans of one search that are held against the allocator before it is given up."""
WORTH_SAYING = 2**26
"""Peaks closer than this many bytes (64 MiB) are alike."""

Shown = TypeVar("Shown")


class Way(Struct, Generic[Shown], frozen=True):
    """A plan with its cost and its peak in bytes."""

    point: Point
    cost: Cost
    peak: int
    shown: Shown


def ways(
    search: Search, accept: Callable[[Point], tuple[int, Shown] | None], most: int = MOST_PLANS
) -> tuple[Way[Shown], ...]:
    """The plans of a job, the first of which is the best.

    Further ones are quicker, need fewer edits or less memory, or do without what the first one changes.

    Args:
        search: over the job's space.
        accept: the peak of a plan and what is to be shown of it; None where it turns out not to fit.
        most: plans that are looked for.
    """
    seen: dict[Point, Way[Shown] | None] = {}
    found: list[Way[Shown]] = []
    for points in _searches(search, found):
        for _, point in zip(range(TRIES), _fewest(search, points, seen), strict=False):
            if point not in seen:
                accepted = accept(point)
                seen[point] = None if accepted is None else Way(point, search.cost(point), *accepted)
            way = seen[point]
            if way is not None:
                found += [] if way in found or any(_beats(other, way) for other in found) else [way]
                break
        if len(found) >= most or (not found and search.spent):
            break
    return tuple(found)


def _fewest(search: Search, points: Iterator[Point], seen: Mapping[Point, Way[Shown] | None]) -> Iterator[Point]:
    """The plans without what they fit without; as they are where the allocator has turned that down."""
    for point in points:
        trimmed = search.trimmed(point)
        yield point if trimmed in seen and seen[trimmed] is None else trimmed


def _searches(search: Search, found: Sequence[Way[Shown]]) -> Iterator[Iterator[Point]]:
    """What is looked for, one after the other, given what was found so far."""
    yield search.best(by_result)
    if not found:
        return
    first = found[0]
    if first.cost.slower:
        for altered in (NUMERICS, STORAGE, TRAINED, BASE):
            if altered > first.cost.alters:
                yield search.best(by_time, altered)
    yield search.best(by_edits, first.cost.alters)
    for axis, value in zip(search.axes, first.point, strict=True):
        if value:
            yield search.best(by_result, max(NUMERICS, first.cost.alters), without=(axis.name,))


def _beats(other: Way[Shown], way: Way[Shown]) -> bool:
    """Whether another plan is as good in everything."""
    better: Sequence[bool] = (
        other.cost.depth <= way.cost.depth,
        other.cost.slower <= way.cost.slower,
        other.cost.edits <= way.cost.edits,
        other.peak <= way.peak + WORTH_SAYING,
    )
    return all(better)


def nearest(search: Search) -> Point | None:
    """Of all plans that were looked at, the one that needs least."""
    least = min((found.device_high for found in search.simulated.values() if found is not None), default=None)
    bounds = {point: bound for point, bound in search.looked_at.items() if isinstance(bound, int)}
    for point, bound in sorted(bounds.items(), key=itemgetter(1)):
        if least is not None and bound > least:
            break
        found = search.estimate(point)
        if found is not None:
            least = found.device_high if least is None else min(least, found.device_high)
    known = {point: found.device_high for point, found in search.simulated.items() if found is not None}
    return min(known, key=lambda point: (known[point], sum(map(bool, point))), default=None)
