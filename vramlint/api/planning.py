"""The plans of one job: found by the search, held against the allocator, made, read and simulated again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from vramlint.api.judging import Simulate
from vramlint.api.verifying import edit
from vramlint.catalog.gpus import smallest_gpus
from vramlint.estimate import Estimate, Slowdown
from vramlint.facts import Origin
from vramlint.fixes.axes import ALLOWANCES, BASE, GPUS, Axis, Option, axes_of
from vramlint.fixes.changes import Changes
from vramlint.fixes.moves import EXPANDABLE
from vramlint.fixes.scaling import gpus_needed, least
from vramlint.fixes.search import Point, Search
from vramlint.fixes.ways import Way, nearest, ways
from vramlint.job import Gpu, Job
from vramlint.plans import Change, Fitting, Plan
from vramlint.resolve.ranks import DECLARED
from vramlint.resolve.run import Run
from vramlint.text import Document, Edit

Said = tuple[str, tuple[Edit, ...]]
"""A change in the vocabulary of the files, and its edits."""
Write = Callable[[Changes], Said | None]
ReadAgain = Callable[[Mapping[str, Document], int], Estimate | None]
"""The estimate of the same run when these documents take the place of its files; where it surely needs more than so
many bytes, what it needs at the least."""

_GROWING = Option(EXPANDABLE)
_ALIKE = 100
"""Peaks are alike that differ by less than one part in so many."""


class _Stage(Struct, frozen=True):
    option: Option
    changes: Changes


class Planning(Struct):
    """Plans for one job."""

    run: Run
    job: Job
    gpu: Gpu
    simulate: Simulate
    write: Write
    read_again: ReadAgain
    limit: int
    documents: Mapping[str, Document]
    closed: frozenset[str]
    allowed: frozenset[str]
    most: int
    """Plans that are looked for."""
    gpus: int = 0
    """GPUs that the machine is declared to have; 0: nothing is known of further ones."""
    target: int = 0
    """Bytes that plans have to stay within."""
    lost: int = 0
    """Bytes that segments kept from the tensors of plans that were turned down."""
    _written: dict[str, Said | None] = field(default_factory=dict)

    def fitting(self) -> Fitting:
        """What makes the job fit."""
        known = self.known()
        if self.runs(self.simulate(self.job)):
            return known
        search = self._search(self.allowed)
        known = replace(self._planned(known, search), notes=tuple(_assumed(self.run)))
        return replace(known, simulations=len(search.simulated))

    def known(self) -> Fitting:
        """The job as it is."""
        self.target = self.limit
        found = self.simulate(self.job)
        return Fitting(
            self.run.name,
            self.run.path,
            "fits",
            self.gpu.name,
            self.gpu.usable_bytes,
            self.limit,
            found.device_need,
            gpus=self.job.parallelism.gpus,
            tokens_per_second=rate_of(self.job, found),
        )

    def _planned(self, known: Fitting, search: Search) -> Fitting:
        found = self._ways(search, self.limit)
        status = "plans"
        if not found and self.limit < self.gpu.usable_bytes:
            status, found = "tight", self._ways(search, self.gpu.usable_bytes)
        larger = self._larger(known.need)
        more = self._more(self.job)
        known = replace(known, larger_gpus=larger, more_gpus=more)
        if found:
            return replace(known, status=status, plans=tuple(way.shown for way in found))
        would_do = dict(self._would_do())
        known = replace(known, allowances=tuple(would_do), allowed_gpus=would_do.get(GPUS))
        point = nearest(search)
        plan = self._plan(search, point, search.options(point)) if point is not None and any(point) else None
        if plan is not None and plan.complete and plan.reread is not None and plan.reread <= self.limit:
            return replace(known, status="plans", plans=(plan,), allowances=(), allowed_gpus=None)
        larger = self._larger(plan.peak) if plan is not None else larger
        job = search.job(point) if point is not None and any(point) else None
        changed = self._more(job) if job is not None else None
        return replace(known, status="nothing", nearest=plan, larger_gpus=larger, more_gpus_changed=changed)

    def _more(self, job: Job) -> int | None:
        """GPUs of the kind on which a job fits, with the headroom."""
        # a byte more than the limit, which the fraction of the usable memory may miss
        return gpus_needed(
            job, self.gpu, lambda each: self.within(each, self.limit + 1), self.limit / self.gpu.usable_bytes
        )

    def _would_do(self) -> Iterator[tuple[str, int]]:
        """What would have to be allowed for a plan to fit, with the GPUs that it then runs on."""
        for word in ALLOWANCES:
            job = self._enough(self._search({*self.allowed, word})) if word not in self.allowed else None
            if job is not None:
                yield word, job.parallelism.gpus

    def _enough(self, search: Search) -> Job | None:
        """A job that a plan makes fit, on as few GPUs as will do."""
        most = next((len(axis.options) for axis in search.axes if axis.name == GPUS), 0)
        enough = self._farthest(search, {GPUS: most} if most else {})
        if enough is None or not most:
            return enough
        # the tensors first: with their segments plans mostly fit where these do
        fewest = least(most, lambda count: any(map(search.fits, search.farthest({GPUS: count}))))
        fewer = (self._farthest(search, {GPUS: count}) for count in range(fewest, most))
        return next(filter(None, fewer), enough)

    def _farthest(self, search: Search, at: Mapping[str, int]) -> Job | None:
        """A job that one of the plans makes fit that go as far as they can, with these values on the axes."""
        for point in filter(search.fits, search.farthest(at)):
            job = search.job(point)
            if job is not None and self.runs(self.simulate(job)):
                return job
        return None

    def _larger(self, need: int) -> tuple[str, ...]:
        """The smallest GPUs that have room for so much, and the headroom."""
        need = need * self.gpu.usable_bytes // self.limit
        return tuple(gpu.name for gpu in smallest_gpus(need, bf16=self.job.precision.bf16))

    def _search(self, allowed: Collection[str]) -> Search:
        axes = (self._usable(axis) for axis in axes_of(self.job, allowed, self.gpus))
        kept = tuple(axis for axis in axes if axis.options)
        return Search(self.job, self.gpu, kept, self.tensors, self.limit, within=self.within)

    def _usable(self, axis: Axis) -> Axis:
        return axis._replace(options=tuple(option for option in axis.options if self._can(option)))

    def _can(self, option: Option) -> bool:
        """Whether the run's vocabulary leaves it open."""
        changes = option.move.facts(self.job)
        if self.closed & changes.keys():
            return False
        if option.framework and option.framework != self.run.framework:
            return False
        return not option.on_host or self._hosted(option)

    def _hosted(self, option: Option) -> bool:
        """Whether host memory has room for what is offloaded."""
        if self.run.ram is None or not option.move.applies(self.job, self.gpu):
            return True
        return self.tensors(option.move.change(self.job)).ram <= self.run.ram

    def tensors(self, job: Job) -> Estimate:
        """The estimate without the allocator."""
        return self.simulate(job, reserved=False)

    def within(self, job: Job, limit: int) -> Estimate:
        """The estimate without the allocator; of a job that surely needs more than `limit` bytes a lower bound."""
        return self.simulate(job, reserved=False, limit=limit)

    def _ways(self, search: Search, target: int) -> tuple[Way[Plan], ...]:
        self.target, self.lost, search.limit = target, 0, target
        found = ways(search, lambda point: self._accepted(search, point), self.most)
        if found or not self.lost:
            return found
        search.limit = target - self.lost
        return ways(search, lambda point: self._accepted(search, point), self.most)

    def _accepted(self, search: Search, point: Point) -> tuple[int, Plan] | None:
        """The plan with its peak, where it goes through with the allocator's segments and once its files are edited."""
        options = search.options(point)
        job = search.job(point)
        if job is None:
            return None
        found = self.simulate(job)
        if not self.runs(found) and EXPANDABLE.applies(job, self.gpu):
            grown = self.simulate(EXPANDABLE.change(job))
            if self.runs(grown):
                found, options = grown, (*options, _GROWING)
        if not self.runs(found):
            self.lost = max(self.lost, found.device_need - (search.estimate(point) or found).device_high)
            return None
        plan = self._plan(search, point, options, found)
        return (plan.peak, plan) if plan.peak <= self.target else None

    def runs(self, found: Estimate) -> bool:
        """Whether a job goes through within the bytes that plans have, on the device and beside it."""
        host = self.run.ram is None or found.ram <= max(self.run.ram, self._ram())
        disk = self.run.nvme is None or found.disk <= self.run.nvme
        return found.device_need <= self.target and not found.tight and host and disk

    def _ram(self) -> int:
        """Host memory that the job takes as it is, bytes."""
        return self.simulate(self.job).ram

    def _plan(self, search: Search, point: Point, options: tuple[Option, ...], found: Estimate | None = None) -> Plan:
        """The plan in the words of the run's files, with its edits, as far as they do what they should."""
        job = search.job(point) or self.job
        found = found or self.simulate(job)
        slowdown = search.slowdown(point) if any(point) else Slowdown(1.0, 1.0, "")
        ram = found.ram if found.ram > self._ram() else 0
        plan = Plan(
            (),
            found.device_need,
            slowdown,
            search.cost(point).alters,
            ram=ram,
            gpus=job.parallelism.gpus,
            tokens_per_second=rate_of(job, found),
        )
        return self.told(plan, options)

    def told(self, plan: Plan, options: tuple[Option, ...]) -> Plan:
        """A plan with its changes and edits, the peak that of the edited files, where they say all of it."""
        stages = tuple(self._stages(options))
        said = [self._said(stage) for stage in stages]
        made = tuple(stage for stage, words in zip(stages, said, strict=True) if words and words[1])
        edits = self._edits(made)
        whole = len(made) == len(stages)
        expected = plan.peak if whole or not made else self.tensors(self._after(made)).device_need
        again = self._again(edits, max(self.target, expected + expected // _ALIKE)) if edits else None
        loosely = any(stage.option.alters == BASE for stage in stages)
        if again is None or not self._as_expected(again, expected, whole=whole, loosely=loosely):
            edits, again = (), None
        changes = tuple(
            _change(stage.option, words, self.job.parallelism.strategy, kept=bool(edits))
            for stage, words in zip(stages, said, strict=True)
            if not _is_overwritten(stage, stages)
        )
        peak = again.device_need if again is not None and whole else plan.peak
        return replace(plan, changes=changes, peak=peak, edits=edits, reread=again.device_need if again else None)

    def _stages(self, options: Iterable[Option]) -> Iterator[_Stage]:
        """Options with the facts that they change, each after those before it."""
        job = self.job
        for option in options:
            yield _Stage(option, option.move.facts(job))
            job = option.move.change(job)

    def _as_expected(self, again: Estimate, expected: int, *, whole: bool, loosely: bool) -> bool:
        """Whether edited files need what they should; where they say a part of a plan, their tensors.

        Where a run may be several jobs, another may now need most. A base that is quantized may need less: frameworks
        prepare it each in its own way.
        """
        if again.method != "simulated":
            return False
        if whole and len(self.run.jobs) > 1 and again.device_need <= self.target:
            return True
        if whole and loosely and again.device_need <= expected and not again.tight:
            return True
        found = again.device_need if whole else again.device_tensors
        return abs(found - expected) * _ALIKE <= expected

    def _after(self, stages: Iterable[_Stage]) -> Job:
        job = self.job
        for stage in stages:
            job = stage.option.move.change(job)
        return job

    def _said(self, stage: _Stage) -> Said | None:
        key = f"{stage.option.move.name} {dict(stage.changes)}"
        if key not in self._written:
            self._written[key] = self.write(stage.changes)
        return self._written[key]

    def _edits(self, stages: Sequence[_Stage]) -> tuple[Edit, ...]:
        """The edits of all changes together: keys that are new in one place are written in one go."""
        together = {
            name: value for stage in stages if stage.option is not _GROWING for name, value in stage.changes.items()
        }
        joined = self.write(together) if together else None
        apart = [stage for stage in stages if joined is None or not joined[1] or stage.option is _GROWING]
        each = (edit for stage in apart for edit in (self._said(stage) or ("", ()))[1])
        return (*(joined[1] if joined is not None else ()), *each)

    def _again(self, edits: tuple[Edit, ...], most: int) -> Estimate | None:
        changed = edit(edits, self.documents)
        return self.read_again(changed, most) if changed else None


def rate_of(job: Job, estimate: Estimate) -> tuple[float, float] | None:
    """Tokens per second of all GPUs, between two bounds; None where a step's time, or its tokens, are not known."""
    from vramlint.cost import cost_of

    cost = cost_of(job, estimate)
    duration = cost.duration if cost is not None else None
    if cost is None or duration is None or not cost.tokens or not duration.most:
        return None
    return cost.tokens / duration.most, cost.tokens / duration.least


def _assumed(run: Run) -> Iterator[str]:
    """What is said of the launch, on which the figures rest."""
    fact = run.get("world_size")
    declared = fact is not None and fact.reason == DECLARED
    if fact is None or not (
        {"world_size", "parallelism"} & {*run.open_facts, *run.unresolved}
        or (fact.origin is Origin.ASSUMED and not declared)
    ):
        return
    most = max((job.parallelism.world_size for job in run.jobs), default=1)
    few = min((job.parallelism.world_size for job in run.jobs), default=1)
    spread = f"{few} to {most} GPUs are" if few < most else f"{most} GPU{'s are' if most > 1 else ' is'}"
    name = run.gpu.id if run.gpu else "NAME"
    yield f"no file says on how many GPUs it runs, {spread} assumed: --gpu {name}xN says it"


def _is_overwritten(stage: _Stage, stages: Sequence[_Stage]) -> bool:
    """Whether a later change of a plan says all that one says, with more: `full_shard`, then `full_shard offload`."""
    later = stages[stages.index(stage) + 1 :]
    return bool(stage.changes) and any(stage.changes.keys() <= other.changes.keys() for other in later)


def _change(option: Option, written: Said | None, strategy: str, *, kept: bool) -> Change:
    move = option.move
    words = written[0] if written else move.words
    package = "" if option.package == strategy else option.package  # it is there where it shares the model already
    return Change(move.name, words, option.result, move.cost, not (kept and written and written[1]), package)
