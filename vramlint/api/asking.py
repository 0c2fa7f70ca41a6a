"""The files of jobs as they would be on another machine: its GPU asked for, no more processes than it has GPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher

from msgspec import Struct
from msgspec.structs import replace

from vramlint.api.fitting import Request, opened
from vramlint.api.judging import write_changes
from vramlint.api.source import Surroundings
from vramlint.catalog.gpu_requests import GpuRequest
from vramlint.catalog.gpus import find_gpu
from vramlint.discovery import SourceFile
from vramlint.facts import FactValue
from vramlint.fixes.applying import apply
from vramlint.job import Gpu
from vramlint.plans import Change
from vramlint.resolve.run import Run
from vramlint.settings import Settings
from vramlint.surfaces.jobfiles.asking import asks, write_request
from vramlint.text import Document, Edit, Place
from vramlint.values import Problem

SettingsOf = Callable[[str], Settings]


class World(Struct, frozen=True):
    """Files, and what lies around them."""

    files: tuple[SourceFile, ...]
    around: Surroundings
    changes: tuple[Change, ...] = ()
    """What differs from the files as they are."""
    unfit: Mapping[tuple[str, str], str] | None = None
    """Why a run (by path and name) cannot be planned for on the machine."""


class Asking(Struct, frozen=True):
    """Makes the files ask for machines."""

    plain: World
    settings_of: SettingsOf
    request: Request

    def world(self, wanted: GpuRequest, name: str) -> World:
        """The files on a machine.

        Args:
            wanted: its GPU, and how many.
            name: as the user calls it.
        """
        asked = self._requested(wanted)
        hardware = asked.around.hardware._replace(gpu=name)
        return self._started(replace(asked, around=asked.around._replace(hardware=hardware)), wanted, name)

    def _requested(self, wanted: GpuRequest) -> World:
        """With the GPU asked for where job files ask for another; by hand where they cannot say it."""
        runs, documents = self._runs(self.plain)
        edits: list[Edit] = []
        words: dict[str, None] = {}
        asked = [run for run in runs if _asks(run) and not _holds(run, wanted)]
        for run in asked:
            fact = run.get("gpu")
            said = write_request(fact, wanted.gpu.id, wanted.count, documents, _each(run)) if fact is not None else None
            words |= {said[0]: None} if said is not None else {}
            edits += said[1] if said is not None else ()
        changed = _edited(self.plain, edits, documents) if edits else None
        if changed is not None and all(_names(run, wanted) for run in self._runs(changed)[0] if _asks(run)):
            return replace(changed, changes=tuple(_change(word) for word in words))
        text = f"{wanted.count or ''} {wanted.gpu.name}".strip()
        by_hand = tuple(dict.fromkeys(_change(f"{text}{_where(run)}", by_hand=True) for run in asked))
        return replace(self.plain, changes=by_hand)

    def _started(self, world: World, wanted: GpuRequest, name: str) -> World:
        """With no more processes than GPUs, where files start more."""
        if wanted.count is None:
            return world
        runs, documents = self._runs(world)
        unfit: dict[tuple[str, str], str] = {}
        for run in runs:
            changes = _fewer(run, wanted.count)
            said = write_changes(run, changes, documents) if changes else None
            changed = _edited(world, said[1], documents) if said is not None and said[1] else None
            if said is not None and changed is not None:
                world = replace(changed, changes=(*world.changes, _change(said[0])))
                documents = self._runs(world)[1]
            elif changes:
                processes = run.jobs[0].parallelism.gpus
                unfit[run.path, run.name] = f"its files start {processes} processes, and {name} has {wanted.count} GPUs"
        return replace(world, unfit=unfit)

    def _runs(self, world: World) -> tuple[tuple[Run, ...], dict[str, Document]]:
        fitter = opened(world.files, self.settings_of, world.around, self.request)
        return fitter.runs(), fitter.documents


def _asks(run: Run) -> bool:
    return asks(run.get("gpu"))


def _where(run: Run) -> str:
    """Where a run asks for its GPU."""
    fact = run.get("gpu")
    place = fact.place if fact is not None else None
    return f" in {place.path}:{place.span.line}" if place is not None else ""


def _each(run: Run) -> int | None:
    """GPUs of one machine of a run."""
    fact = run.get("gpus_per_node")
    return fact.value if fact is not None and isinstance(fact.value, int) else None


def _holds(run: Run, wanted: GpuRequest) -> bool:
    """Whether a job file asks for a GPU, and as many."""
    return _names(run, wanted) and (wanted.count is None or _each(run) in (None, wanted.count))


def _names(run: Run, wanted: GpuRequest) -> bool:
    """Whether a job file asks for a GPU, or for any of several of which it is one."""
    fact = run.get("gpu")
    return fact is not None and any(_same(str(candidate.value), wanted) for candidate in fact.candidates)


def _same(name: str, wanted: GpuRequest) -> bool:
    found = find_gpu(name)
    return isinstance(found, Gpu) and found.id == wanted.gpu.id


def _fewer(run: Run, gpus: int) -> dict[str, FactValue]:
    """The changes by which a run of one machine starts as many processes, with its global batch; none where it may."""
    most = max((job for job in run.jobs), key=lambda job: job.parallelism.gpus, default=None)
    if most is None or most.parallelism.nodes > 1 or most.parallelism.gpus <= gpus:
        return {}
    times, rest = divmod(most.parallelism.gpus, gpus)
    changes: dict[str, FactValue] = {"world_size": gpus}
    if not rest:
        changes["gradient_accumulation_steps"] = times * most.batch.gradient_accumulation_steps
    return changes


def _change(words: str, *, by_hand: bool = False) -> Change:
    return Change("gpu", words, "", "another machine", by_hand)


def _edited(world: World, edits: Sequence[Edit], documents: Mapping[str, Document]) -> World | None:
    """The files after edits; None where one cannot be made."""
    changed = apply(edits, documents, world.around.load)
    if isinstance(changed, Problem) or not changed:
        return None
    load = world.around.load

    def read(path: str) -> bytes | None:
        return changed[path] if path in changed else load(path)

    files = tuple(replace(file, data=changed.get(file.path, file.data)) for file in world.files)
    return replace(world, files=files, around=world.around._replace(load=read))


def rewriting(before: Mapping[str, Document], after: Mapping[str, Document]) -> tuple[Edit, ...]:
    """The edits that make documents of others: whole lines, without what their ends have in common."""
    return tuple(
        edit
        for path, document in after.items()
        if path in before and before[path].text != document.text
        for edit in _lines(before[path], document.text)
    )


def _lines(before: Document, after: str) -> Iterator[Edit]:
    old, new = before.text.splitlines(keepends=True), after.splitlines(keepends=True)
    starts = [0]
    for line in old:
        starts.append(starts[-1] + len(line))
    for tag, first, last, start, stop in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        text = "".join(new[start:stop])
        begin, end = starts[first], starts[last]
        was = before.text[begin:end]
        head = next((i for i, (a, b) in enumerate(zip(was, text, strict=False)) if a != b), min(len(was), len(text)))
        tail = 0
        while tail < min(len(was), len(text)) - head and was[-1 - tail] == text[-1 - tail]:
            tail += 1
        place = Place(before.path, before.span(begin + head, end - tail))
        yield Edit(place, text[head : len(text) - tail])
