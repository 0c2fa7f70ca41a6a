"""The search over the space of plans: branch and bound over boxes of values.

A plan is one value on each axis (`axes.py`). A box of plans is known to hold none that fits when the plan with all of
its last values does not; the plan that keeps most is the least that a plan of the box costs. Boxes are opened in order
of that cost, so the first single plan that comes up and fits is the best one, as far as the axes keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from math import ceil, log, prod
from types import MappingProxyType

from msgspec import Struct, field

from vramlint.cost.pace import Pace, pace, ratio, slowdown_between
from vramlint.estimate import BEYOND, Estimate, Slowdown
from vramlint.fixes.axes import BASE, SAME, Axis, Option
from vramlint.fixes.forecast import foretold, recomputed_part
from vramlint.job import Gpu, Job

Simulate = Callable[[Job], Estimate]
Point = tuple[int, ...]
"""For each axis the number of its option from 1; 0: the job's own."""
Key = tuple[float, ...]

MOST_SIMULATIONS = 64
NOWHERE: Mapping[str, int] = MappingProxyType({})
ALIKE = 1.05
"""Times of a step that differ by less than this factor count as equal."""
FAR = 1.5
"""A step that takes longer than this costs as much as other numerics do, and somewhat more."""
DEARER = 1.5


class Cost(Struct, frozen=True):
    """What a plan costs."""

    alters: int
    altering: int
    """How many of its changes alter the result."""
    factor: float
    """Time of a step over that before."""
    edits: int

    @property
    def slower(self) -> int:
        """The factor in steps of `ALIKE`; what is quicker is not better than what is as quick."""
        return max(0, ceil(log(self.factor) / log(ALIKE) - 0.5)) if self.factor > 1 else 0

    @property
    def depth(self) -> float:
        """How far it goes into the result, far slower steps counted as going in, too."""
        return self.alters + (DEARER if self.factor > FAR else 0)


def by_result(cost: Cost) -> Key:
    """The mathematics first, then time, then edits."""
    return cost.depth, cost.altering, cost.slower, cost.edits, cost.factor


def by_time(cost: Cost) -> Key:
    """Time first."""
    return cost.slower, cost.depth, cost.altering, cost.edits, cost.factor


def by_edits(cost: Cost) -> Key:
    """The fewest edits first."""
    return cost.edits, cost.depth, cost.altering, cost.slower, cost.factor


class Search(Struct):
    """The plans of one job on one GPU; each set of changes is simulated once."""

    start: Job
    gpu: Gpu
    axes: Sequence[Axis]
    simulate: Simulate
    """The memory model without the allocator."""
    limit: int
    """Bytes of device memory for tensors and what lies outside torch."""
    most: int = MOST_SIMULATIONS
    within: Callable[[Job, int], Estimate] | None = None
    """The same as `simulate` for jobs that need no more than so many bytes; of others it may be a lower bound."""
    simulated: dict[Point, Estimate | None] = field(default_factory=dict)
    beyond: dict[Point, int] = field(default_factory=dict)
    """Bytes that a plan needs at the least which was not simulated to its end."""
    _jobs: dict[Point, Job | None] = field(default_factory=dict)
    _costs: dict[Point, Cost] = field(default_factory=dict)
    _recomputed: float | None = None
    _first: Estimate | None = None
    _pace: Pace | None = None

    @property
    def origin(self) -> Point:
        """The job as it is."""
        return (0,) * len(self.axes)

    def options(self, point: Point) -> tuple[Option, ...]:
        """The changes of a plan, in the order in which they are made."""
        return tuple(axis.options[value - 1] for axis, value in zip(self.axes, point, strict=True) if value)

    def job(self, point: Point) -> Job | None:
        """The job after all changes; None when one of them does not apply after the others."""
        if point not in self._jobs:
            self._jobs[point] = self._changed(point)
        return self._jobs[point]

    def _changed(self, point: Point) -> Job | None:
        job = self.start
        for option in self.options(point):
            if not option.move.applies(job, self.gpu):
                return None
            job = option.move.change(job)
        return job

    def estimate(self, point: Point) -> Estimate | None:
        """The simulated step after all changes; None if there is none, or enough has been simulated."""
        if point not in self.simulated:
            job = self.job(point)
            if job is None or (self.spent and point not in self.beyond):
                return None
            self._simulated(point, self.simulate(job))
        return self.simulated[point]

    def _simulated(self, point: Point, found: Estimate) -> None:
        self.beyond.pop(point, None)
        self.simulated[point] = found if found.method == "simulated" else None
        self._learn(found)

    def _exceeds(self, point: Point) -> bool:
        """Whether a plan surely needs more than there is; else it is simulated, if enough has not been."""
        if self.beyond.get(point, 0) > self.limit:
            return True
        job = self.job(point)
        if self.within is None or job is None or point in self.simulated:
            return False
        if self._unlearned(job) or (self.spent and point not in self.beyond):
            return False
        found = self.within(job, self.limit)
        if found.method != BEYOND:
            self._simulated(point, found)
            return False
        self.beyond[point] = found.device_high
        return True

    def _unlearned(self, job: Job) -> bool:
        """Whether plans are ordered by what only a step with checkpoints tells, as that of this job may be."""
        return self._first is not None and self._recomputed is None and job.checkpointing.mode != "none"

    def _learn(self, found: Estimate) -> None:
        """How much of the forward this model's checkpoints run again, once a simulated step tells."""
        part = recomputed_part(found) if self._recomputed is None else None
        if part is not None:
            self._recomputed = part
            self._costs.clear()

    @property
    def spent(self) -> bool:
        """Whether enough has been simulated."""
        return len(self.simulated) + len(self.beyond) >= self.most

    def misfits(self, point: Point) -> bool:
        """Whether it is known that the step after all changes does not fit."""
        if self._exceeds(point):
            return True
        found = self.estimate(point)
        return found is not None and found.device_high > self.limit

    def fits(self, point: Point) -> bool:
        """Whether the tensors after all changes fit."""
        if self._exceeds(point):
            return False
        found = self.estimate(point)
        return found is not None and found.device_high <= self.limit

    def cost(self, point: Point) -> Cost:
        """What a plan costs: the time of its step as foretold."""
        if point not in self._costs:
            self._costs[point] = self._cost(point, self.factor(point))
        return self._costs[point]

    def counted(self, point: Point) -> Cost:
        """What a plan costs: the time of its step as the simulated one counts it."""
        job, found = self.job(point), self.estimate(point)
        after = pace(job, found) if job is not None and found is not None else None
        return self._cost(point, (ratio(self._begun(), after) or 1.0) * self._assumed(point, after))

    def _cost(self, point: Point, factor: float) -> Cost:
        options = self.options(point)
        return Cost(
            max((option.alters for option in options), default=SAME),
            sum(option.alters > SAME for option in options),
            factor,
            sum(option.edits for option in options),
        )

    def factor(self, point: Point) -> float:
        """Time of a step after all changes over that before, as foretold; 1 where nothing tells."""
        before, job = self._begun(), self.job(point)
        if job is None or self._first is None:
            return 1.0
        after = pace(job, foretold(self.start, self._first, job, self._recomputed or 1.0))
        return (ratio(before, after) or 1.0) * self._assumed(point, after)

    def _assumed(self, point: Point, after: Pace | None) -> float:
        """What is assumed of traffic that is not counted."""
        left_out = after is not None and after.left_out
        return prod(option.at_least * (option.uncounted if left_out else 1) for option in self.options(point))

    def slowdown(self, point: Point) -> Slowdown | None:
        """Time of a step after all changes over that before, by the simulated steps; None where nothing tells."""
        job, found = self.job(point), self.estimate(point)
        before, after = self._begun(), pace(job, found) if job is not None and found is not None else None
        return slowdown_between(before, after, self._assumed(point, after))

    def _begun(self) -> Pace | None:
        """The pace of the job as it is."""
        if self._first is None:
            self._first = self.simulate(self.start)
            self._pace = pace(self.start, self._first)
        return self._pace

    def best(
        self,
        order: Callable[[Cost], Key],
        most_altered: int = BASE,
        without: Collection[str] = (),
    ) -> Iterator[Point]:
        """Plans whose tensors fit, the best first; ends where enough has been simulated.

        Args:
            order: what is better.
            most_altered: how far into the result a plan may go.
            without: names of axes that a plan leaves alone.
        """
        last = (
            0 if axis.name in without else sum(option.alters <= most_altered for option in axis.options)
            for axis in self.axes
        )
        heap: list[tuple[Key, int, Point, Point]] = []
        count = 0
        waiting = list(self._split_apart(self.origin, tuple(last)))
        first = self._corner(*waiting[0])
        if first is not None:
            self.estimate(first)  # the first that is asked for; what it tells of times counts for all others
        while waiting or heap:
            for low, high in waiting:
                corner = self._corner(low, high)
                if corner is not None:
                    heappush(heap, (self._least(order, low, corner), count, low, corner))
                    count += 1
            waiting = []
            if not heap:
                return
            _, _, low, high = heappop(heap)
            if self.spent and high not in self.simulated and high not in self.beyond:
                return
            if self.misfits(high):
                continue
            if low != high:
                waiting = list(self._halves(low, high))
            elif self.fits(low):
                yield low

    def farthest(self, at: Mapping[str, int] = NOWHERE) -> Iterator[Point]:
        """The plans that go as far as the axes do, of which one fits if any plan does.

        Args:
            at: values that they have on axes of these names.
        """
        first = tuple(at.get(axis.name, 0) for axis in self.axes)
        last = tuple(at.get(axis.name, len(axis.options)) for axis in self.axes)
        corners = (self._corner(low, high) for low, high in self._split_apart(first, last))
        yield from (corner for corner in corners if corner is not None)

    def trimmed(self, point: Point) -> Point:
        """The plan without changes that it fits without and that make a step no quicker worth saying.

        Times count in steps of `ALIKE`, at whose bounds a change that saves next to nothing may seem to help.
        """
        for index, value in sorted(enumerate(point), key=lambda item: -self._edits(*item)):
            without = _with(point, index, 0)
            if value and self.job(without) is not None and self.factor(without) <= ALIKE * self.factor(point):
                point = without if self.fits(without) else point
        return point

    def _edits(self, index: int, value: int) -> int:
        return self.axes[index].options[value - 1].edits if value else 0

    def _corner(self, low: Point, high: Point) -> Point | None:
        """The plan of a box that saves most, on each axis the last value that applies; None where there is no plan."""
        job, values = self.start, []
        for axis, first, last in zip(self.axes, low, high, strict=True):
            for value in range(last, first - 1, -1):
                if not value:
                    break
                move = axis.options[value - 1].move
                if move.applies(job, self.gpu):
                    job = move.change(job)
                    break
            else:
                return None
            values.append(value)
        self._jobs.setdefault(tuple(values), job)
        return tuple(values)

    def _least(self, order: Callable[[Cost], Key], low: Point, high: Point) -> Key:
        """What the plans of a box cost at the least."""
        if low == high:
            return order(self.cost(low))
        ends = zip(self.axes, low, high, strict=True)
        quickest = tuple(_quickest(axis, first, last) for axis, first, last in ends)
        return order(self._cost(low, min(self.factor(quickest), self.factor(low))))

    def _split_apart(self, low: Point, high: Point) -> Iterator[tuple[Point, Point]]:
        """Boxes each with one value on each axis that has no order; of one whose options have, with them or without."""
        for index, axis in enumerate(self.axes):
            if axis.apart and low[index] < high[index]:
                for value in range(low[index], high[index] + 1):
                    yield from self._split_apart(_with(low, index, value), _with(high, index, value))
                return
            if axis.begins and low[index] == 0 < high[index]:
                yield from self._split_apart(low, _with(high, index, 0))
                yield from self._split_apart(_with(low, index, 1), high)
                return
        yield low, high

    def _halves(self, low: Point, high: Point) -> Iterator[tuple[Point, Point]]:
        """Two boxes, of the earlier and of the later values on the dearest axis that is open."""
        index = next(index for index in range(len(low)) if low[index] < high[index])
        middle = (low[index] + high[index]) // 2
        yield low, _with(high, index, middle)
        yield _with(low, index, middle + 1), high


def _quickest(axis: Axis, first: int, last: int) -> int:
    """The value between two after which a step may be quickest."""
    values = (value for value in range(last, first, -1) if axis.options[value - 1].quickens)
    return next((value for value in values if axis.options[value - 1].at_least <= 1), first)


def _with(point: Point, index: int, value: int) -> Point:
    return (*point[:index], value, *point[index + 1 :])
