"""What a step does besides its optimizer, traced once for all jobs that do it alike.

Forward and backward know nothing of the optimizer, of the allocator's settings or of where the weights come from. Jobs
that differ in these alone have the same log but for what the optimizer's step adds to it. So the passes are traced
apart, no further than a job follows them, and each job adds them to a log of its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from vramlint.estimate import Work
from vramlint.job import Allocator, Job, Optimizer
from vramlint.memory import optimizers
from vramlint.memory.data_parallel import is_spread
from vramlint.memory.rank import Sharding
from vramlint.memory.recorder import Block, Event, Label, Recorder
from vramlint.memory.tensor import Parameter
from vramlint.memory.zero_buckets import Buckets
from vramlint.memory.zero_partition import scattered

if TYPE_CHECKING:
    from vramlint.memory.step import Step

MOST_EVENTS = 400_000
"""Events of the passes that are kept: 30 MB."""


class Mark(NamedTuple):
    """A place in a log that is being written."""

    block: int
    event: int
    made: int
    lasting: int

    @classmethod
    def of(cls, recorder: Recorder) -> Mark:
        """Where it stands."""
        return cls(len(recorder.blocks), len(recorder.events), len(recorder.sizes), len(recorder.lasting))


class Part(Struct, frozen=True):
    """A stretch of a log."""

    start: int
    """The index of its first allocation."""
    events: Sequence[Event]
    """What it adds to the block that is there."""
    blocks: Sequence[tuple[bool, Block]]
    """Its own, each with whether a phase begins there."""
    sizes: Sequence[int]
    labels: Sequence[Label]
    once: Sequence[int]
    streams: Sequence[tuple[int, str]]
    lasting: Sequence[tuple[str, int]]
    due: str
    """The phase of the optimizer's step that follows; empty where none does."""
    reduced: Sequence[tuple[int, int]]
    """Reduced gradients of this rank then, as of `Step`."""
    work: tuple[Work, ...]
    """What the last micro batch computed."""

    @classmethod
    def since(cls, begin: Mark, step: Step, due: str) -> Part:
        """What a step has recorded since a mark."""
        recorder = step.recorder
        added = recorder.blocks[begin.block :]
        first = recorder.blocks[begin.block - 1].events[begin.event :] if begin.block else []
        phases = frozenset(recorder.phases)
        return cls(
            begin.made,
            first,
            [
                (number in phases, replace(block, events=[*block.events]))
                for number, block in enumerate(added, begin.block)
            ],
            recorder.sizes[begin.made :],
            recorder.labels[begin.made :],
            [index for index in recorder.once if index >= begin.made],
            [(index, stream) for index, stream in recorder.streams.items() if index >= begin.made],
            recorder.lasting[begin.lasting :],
            due,
            tuple(step.reduced),
            step.work,
        )


class Tracing:
    """The passes of a step, traced as far as somebody follows them."""

    def __init__(self, step: Step, parameters: Sequence[Parameter]) -> None:
        self.parameters = parameters
        """The model's: which of them get gradients shows behind the first backward."""
        self._step: Step | None = step
        self._passes = step.passes()
        self._mark = Mark.of(step.recorder)
        self._parts: list[Part] = []
        self.size = 0
        """How many events they have so far."""
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[Part]:
        """The parts of the log, one after the other.

        Raises:
            Exception: what tracing raised.
        """
        number = 0
        while number < len(self._parts) or self._goes_on():
            yield self._parts[number]
            number += 1

    def _goes_on(self) -> bool:
        """Trace another part, if there is one."""
        step = self._step
        if self._error is not None:
            raise self._error
        if step is None:
            return False
        if self._parts and self._parts[-1].due:
            step.reduced = []
        try:
            due = next(self._passes, None)
        except Exception as error:
            self._error, self._step = error, None
            raise
        part = Part.since(self._mark, step, due or "")
        self._parts.append(part)
        self.size += len(part.events) + sum(len(block.events) for _, block in part.blocks)
        if due:
            step.recorder.phase(due)
        self._mark = Mark.of(step.recorder)
        if due is None:
            step.recorder.close()
            self._step = None
        return True


class Retracing:
    """Adds the parts of a log to another one."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._moved: list[tuple[range, int]] = []
        """Indices of the parts that were added, and by how much they are higher here."""

    def add(self, part: Part) -> None:
        """Add the next part.

        Raises:
            ExceededError: as of `WatchedRecorder.phase`.
        """
        recorder = self._recorder
        offset = len(recorder.sizes) - part.start
        self._moved.append((range(part.start, part.start + len(part.sizes)), offset))
        recorder.sizes += part.sizes
        recorder.labels += part.labels
        recorder.once.update([index + offset for index in part.once])
        recorder.streams.update([(index + offset, stream) for index, stream in part.streams])
        recorder.lasting += part.lasting
        recorder.events += self.placed(part.events, part.start)
        for begins, block in part.blocks:
            if begins:
                recorder.phase(block.phase)
            else:
                recorder.begin(block.phase, block.repeat, block.layers)
            recorder.events += self.placed(block.events, part.start)

    def placed(self, events: Sequence[Event], start: int) -> list[Event]:
        """Events of the part that was added last, which starts at an index, with the indices that they have here."""
        offset = self._moved[-1][1]
        if not any(moved for _, moved in self._moved):
            return [*events]
        return [(index + offset if index >= start else self._earlier(index), count) for index, count in events]

    def _earlier(self, index: int) -> int:
        return index + next(offset for indices, offset in self._moved if index in indices)


class Passes:
    """What was traced, for jobs to come."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Tracing] = {}

    def find(self, key: Hashable) -> Tracing | None:
        """The passes of this key, if a job had them."""
        return self._kept.get(key)

    def start(self, key: Hashable, tracing: Tracing) -> Tracing:
        """Keep what is to be traced, in the place of what was traced long ago."""
        events = sum(kept.size for kept in self._kept.values())
        while events > MOST_EVENTS:
            events -= self._kept.pop(next(iter(self._kept))).size
        self._kept[key] = tracing
        return tracing


def key_of(job: Job, sharding: Sharding, idle: frozenset[str], *, observed: bool) -> Hashable:
    """What decides all but the optimizer's steps; None where these cannot be told apart from the rest.

    `idle` parameters are known to get no gradient, `observed` is as of `simulate`.
    """
    parallelism = job.parallelism
    update = optimizers.update_of(job)
    woven = sharding.hooked or is_spread(job) or (update is not None and update.swaps_gradients)
    if woven or parallelism.mesh is not None or parallelism.megatron is not None or parallelism.neox is not None:
        return None
    if job.objective.kind != "training":
        return None
    plain = replace(
        job,
        optimizer=Optimizer(target_modules=job.optimizer.target_modules),
        allocator=Allocator(),
        loading=None,
    )
    zero, units = parallelism.zero, sharding.units
    held = (sharding.backward, sharding.gradients, sharding.consumes_gradients, sharding.clears, sharding.gathered)
    if zero is None or zero.stage < 3 or not isinstance(units, Buckets):
        return (repr(plain), repr(held), idle, observed)
    zero = replace(zero, offload_optimizer="none", offload_parameters="none")
    plain = replace(plain, parallelism=replace(parallelism, zero=zero))
    if units.copies is not scattered or job.evaluation is not None:
        return (repr(plain), repr(held), idle, observed)
    # all ranks together hold what one gathers: how many there are shows in nothing else
    plain = replace(plain, parallelism=replace(plain.parallelism, world_size=1, nodes=1))
    places = {id(parameter): number for number, parameter in enumerate(units.parameters)}
    beside = [(places[parameter], nbytes) for parameter, nbytes in units.beside.items()]
    return (repr(plain), repr(held), idle, observed, repr((units.gathered, units.second, beside)))
