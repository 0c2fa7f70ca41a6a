"""The search over the space of plans: branch and bound over boxes of values.

A plan is one value on each axis (`axes.py`). A box of plans is known to hold none that fits when the plan with all of
its last values does not; the plan that keeps most is the least that a plan of the box costs. Boxes are opened in order
of that cost, so the first single plan that comes up and fits is the best one, as far as the axes keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from math import prod
from types import MappingProxyType

from msgspec import Struct, field

from vramlint.cost.pace import Pace, pace, ratio, slowdown_between
from vramlint.estimate import BEYOND, Estimate, Slowdown
from vramlint.fixes.axes import BASE, GPUS, SAME, Axis, Option
from vramlint.fixes.costs import ALIKE, Cost, Key
from vramlint.fixes.forecast import foretold, recomputed_part
from vramlint.job import Gpu, Job

Simulate = Callable[[Job], Estimate]
Point = tuple[int, ...]
"""For each axis the number of its option from 1; 0: the job's own."""

MOST_SIMULATIONS = 64
NOWHERE: Mapping[str, int] = MappingProxyType({})


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
    looked_at: dict[Point, Estimate | int | None] = field(default_factory=dict)
    """Plans in the order in which they were asked for: their estimates; None where the step is not simulated; the bytes
    that it takes at the least where it was not to its end."""
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
        found = self.looked_at.get(point, 0)
        if not isinstance(found, int):
            return found
        job = self.job(point)
        if job is None or (self.spent and point not in self.looked_at):
            return None
        return self._simulated(point, self.simulate(job))

    def _simulated(self, point: Point, found: Estimate) -> Estimate | None:
        self.looked_at[point] = kept = found if found.method == "simulated" else None
        self._learn(found)
        return kept

    def _exceeds(self, point: Point) -> bool:
        """Whether a plan surely needs more than there is; else it is simulated, if enough has not been."""
        known = self.looked_at.get(point, 0)
        if not isinstance(known, int):
            return False
        if known > self.limit:
            return True
        job = self.job(point)
        if self.within is None or job is None or self._unlearned(job):
            return False
        if self.spent and point not in self.looked_at:
            return False
        least = self._least_of_more(point)
        if least > self.limit:
            self.looked_at[point] = least
            return True
        found = self.within(job, self.limit)
        if found.method != BEYOND:
            self._simulated(point, found)
            return False
        self.looked_at[point] = found.device_high
        return True

    def _least_of_more(self, point: Point) -> int:
        """Bytes that a plan takes at the least because one that saves as much or more takes them; 0: none is known."""
        needs = (
            (other, found if isinstance(found, int) else found.device_high)
            for other, found in self.looked_at.items()
            if found is not None
        )
        exceeding = ((other, need) for other, need in needs if need > self.limit)
        return next((need for other, need in exceeding if self._saves_no_more(point, other)), 0)

    def _unlearned(self, job: Job) -> bool:
        """Whether plans are ordered by what only a step with checkpoints tells, as that of this job may be."""
        return self._first is not None and self._recomputed is None and job.checkpointing.mode != "none"

    def _leads_on(self, corner: Point) -> bool:
        """Whether it is known without a simulation that plans of a box may fit: one that saves no more than its last.

        Such a corner counts as looked at.
        """
        job = self.job(corner)
        if isinstance(self.looked_at.get(corner, 0), Estimate) or job is None or self._unlearned(job):
            return False
        if self.spent and corner not in self.looked_at:
            return False
        fitting = (
            point
            for point, found in self.looked_at.items()
            if isinstance(found, Estimate) and found.device_high <= self.limit
        )
        if not any(self._saves_no_more(point, corner) for point in fitting):
            return False
        self.looked_at.setdefault(corner, 0)
        return True

    def _saves_no_more(self, point: Point, other: Point) -> bool:
        """Whether a plan has no later value than another on each axis in whose order they are.

        What goes to the host, and more GPUs, may leave more on the device beside gradients that accumulate: there both
        have the same.
        """
        return all(
            value == limit or (value < limit and _is_ordered(axis) and not (axis.begins and not value))
            for axis, value, limit in zip(self.axes, point, other, strict=True)
        )

    def _learn(self, found: Estimate) -> None:
        """How much of the forward this model's checkpoints run again, once a simulated step tells."""
        part = recomputed_part(found) if self._recomputed is None else None
        if part is not None:
            self._recomputed = part
            self._costs.clear()

    @property
    def spent(self) -> bool:
        """Whether enough has been simulated."""
        return len(self.looked_at) >= self.most

    @property
    def simulated(self) -> dict[Point, Estimate | None]:
        """The plans that were simulated to their end."""
        return {point: found for point, found in self.looked_at.items() if not isinstance(found, int)}

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
        if first is not None and self._recomputed is None:
            self.estimate(first)  # the first that is asked for; what it tells of times counts for all others
        elif first is not None and not self._leads_on(first):
            self.misfits(first)
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
            if self.spent and high not in self.looked_at:
                return
            if (low == high or not self._leads_on(high)) and self.misfits(high):
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


def _is_ordered(axis: Axis) -> bool:
    return not axis.apart and axis.name != GPUS and not any(option.on_host for option in axis.options)


def _with(point: Point, index: int, value: int) -> Point:
    return (*point[:index], value, *point[index + 1 :])
