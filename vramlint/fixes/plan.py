"""The cheapest set of moves with which a job fits its GPU."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct, field

from vramlint.cost import middle, slowdown
from vramlint.estimate import Estimate, Slowdown
from vramlint.findings import Fix, Step
from vramlint.fixes.changes import Changes, batch_facts, smaller_batch
from vramlint.fixes.further_moves import evaluation_batch_move, smaller_sizes
from vramlint.fixes.moves import EXCLUSIVE, EXPANDABLE, MOVES, UNCOUNTED, Move
from vramlint.job import Gpu, Job
from vramlint.resolve.run import Run
from vramlint.text import Edit

Simulate = Callable[[Job], Estimate]
Writer = Callable[[Run, Changes], tuple[str, tuple[Edit, ...]] | None]
"""Says changed facts in the vocabulary of the run's files: (description, edits), None where no file can say them."""

MAX_SIMULATIONS = 60
WORTH_SAYING = 2**26
"""A move that takes less than this many bytes (64 MiB) off the peak is no advice."""
ALIKE = 10
"""Difference of price within which the estimated time of a step decides between two moves."""
WORTH_CHANGING = 0.98
ROUNDS = 3
"""Searches for moves whose segments fit too."""
BATCH_MOVE, EVALUATION_MOVE = "smaller-micro-batch", "smaller-eval-batch"

Chosen = tuple[Move, ...]


class _Search(Struct):
    """Simulates sets of moves, each once."""

    start: Job
    gpu: Gpu
    simulate: Simulate
    limit: int
    """Bytes of device memory to stay within."""
    micro_batch_size: int = 1
    """What `smaller-micro-batch` shrinks to."""
    closed: frozenset[str] = frozenset()
    """Facts that nothing can change."""
    played: Simulate | None = None
    """The memory model with the allocator's segments."""
    peaks: dict[tuple[tuple[str, ...], int], int | None] = field(default_factory=dict)

    def job(self, chosen: Chosen) -> Job | None:
        """The job after all moves, None when one of them does not apply after the others."""
        job = self.start
        for move in chosen:
            if not move.applies(job, self.gpu) or self.closed & _changes(move, job, self.micro_batch_size).keys():
                return None
            job = smaller_batch(job, self.micro_batch_size) if move.name == BATCH_MOVE else move.change(job)
        return job

    def peak(self, chosen: Chosen) -> int | None:
        """Bytes of device memory after all moves.

        None if they don't go together, the budget is spent, or what they make is not simulated: a bound proves nothing.
        """
        key = (tuple(move.name for move in chosen), self.micro_batch_size)
        if key not in self.peaks:
            job = self.job(chosen) if len(self.peaks) < MAX_SIMULATIONS else None
            estimate = None if job is None else self.simulate(job)
            known = estimate is not None and estimate.method == "simulated"
            self.peaks[key] = estimate.device_high if estimate is not None and known else None
        return self.peaks[key]

    def estimate(self, chosen: Chosen) -> Estimate | None:
        """The estimate after all moves, with what the allocator's segments keep from the tensors."""
        job = self.job(chosen)
        return None if job is None else (self.played or self.simulate)(job)

    def need(self, chosen: Chosen) -> int | None:
        """Bytes of device memory after all moves, segments included."""
        found = self.estimate(chosen)
        return None if found is None else found.device_need

    def runs(self, chosen: Chosen) -> bool:
        """Whether the job after all moves gets through on the card."""
        found = self.estimate(chosen)
        return found is not None and found.device_need <= self.gpu.usable_bytes and not found.tight

    def fits(self, chosen: Chosen) -> bool:
        """Whether the tensors of the job after all moves stay within the limit."""
        peak = self.peak(chosen)
        return peak is not None and peak <= self.limit


def plan(
    run: Run,
    job: Job,
    gpu: Gpu,
    simulate: Simulate,
    write: Writer | None = None,
    headroom: float = 0.95,
    closed: frozenset[str] = frozenset(),
    played: Simulate | None = None,
) -> Fix | None:
    """The cheapest plan found by which `job` fits `gpu`, or the one that comes nearest (`Fix.fits` says which).

    Moves are taken in order of price until the job fits, then those that turn out unnecessary are dropped, the dearest
    first. Every figure is of a simulation of the changed job. A plan leaves headroom, so that it doesn't trade a
    misfit for a tight fit; where none does, one that just fits will do. The search looks at tensors; what it finds is
    held against the allocator, with segments that can grow where others do not do.

    Args:
        run: where the facts are written, for the wording and the edits.
        job: the job to change.
        gpu: the GPU to fit.
        simulate: the memory model without the allocator.
        write: says changed facts in the vocabulary of the files; None to say them in words only.
        headroom: fraction of the usable memory to stay within.
        closed: facts that nothing in the run's vocabulary can change.
        played: the memory model with the allocator; None to leave it out.

    Returns:
        None when the job fits already, when its architecture cannot be simulated or when no move helps.
    """
    search = _Search(job, gpu, simulate, int(headroom * gpu.usable_bytes), closed=closed, played=played)
    before = (played or simulate)(job)
    if before.device_need <= gpu.usable_bytes or before.method != "simulated":
        return None
    search.peaks[(), search.micro_batch_size] = simulate(job).device_high
    chosen = _settled(search)
    peak = search.need(chosen) or before.device_need
    if not chosen or peak >= before.device_need:
        return None
    steps = _steps(run, search, _ordered(search, chosen), write)
    return Fix(steps=steps, peak=peak, fits=search.runs(chosen))


def _settled(search: _Search) -> Chosen:
    """The cheapest moves with which the tensors fit and their segments too; else those that come nearest."""
    usable = search.gpu.usable_bytes
    if search.played is not None and (search.peak(()) or 0) <= usable and search.runs((EXPANDABLE,)):
        return (EXPANDABLE,)
    chosen = _found(search, search.limit, usable)
    for _ in range(ROUNDS):
        if search.played is None or not search.fits(chosen) or search.runs(chosen):
            return chosen
        if search.runs((*chosen, EXPANDABLE)):
            return (*chosen, EXPANDABLE)
        lost = (search.need(chosen) or 0) - (search.peak(chosen) or 0)
        before = chosen, search.micro_batch_size
        chosen = _found(search, usable - lost, usable - lost)
        if before == (chosen, search.micro_batch_size):
            break
    return chosen


def _found(search: _Search, limit: int, most: int) -> Chosen:
    """The cheapest moves with which the tensors fit in `limit` bytes, or in `most`, or that come nearest.

    Room to spare is not worth another result of the training.
    """
    within = _within(search, limit)
    if within is not None and all(move.safe for move in within):
        return within
    just = _within(search, most)
    if just is not None and (within is None or all(move.safe for move in just)):
        return just
    if within is not None:
        return _within(search, limit) or within  # with the micro batch of that plan
    return _without_idle(search, _gather(search))


def _within(search: _Search, limit: int) -> Chosen | None:
    """The cheapest moves with which the tensors fit in `limit` bytes; None where none do."""
    search.limit, search.micro_batch_size = limit, 1
    chosen = _gather(search)
    if not search.fits(chosen):
        return None
    return _relax_evaluation(search, _relax_batch(search, _quicker(search, _prune(search, chosen))))


def _gather(search: _Search) -> Chosen:
    """Moves in order of price, until the job fits.

    A move that makes no difference yet is taken too: with a later one (checkpointing, once the optimizer's states
    no longer make the peak) it may. What stays unnecessary is dropped afterwards.
    """
    chosen: Chosen = ()
    best = search.peak(chosen) or 0
    for move in MOVES:
        if search.fits(chosen):
            break
        candidate = (*_compatible(chosen, move), move)
        peak = search.peak(candidate)
        if peak is not None and peak <= best:
            chosen, best = candidate, peak
    return chosen


def _compatible(chosen: Chosen, move: Move) -> Chosen:
    """The chosen moves without those that `move` takes the place of."""
    rivals = {name for names in EXCLUSIVE if move.name in names for name in names}
    return tuple(other for other in chosen if other.name not in rivals)


def _prune(search: _Search, chosen: Chosen) -> Chosen:
    """Drop what is not needed, the dearest first; then the cheaper rival of a kept move, if it will do."""
    for move in sorted(chosen, key=lambda move: -move.price):
        without = tuple(other for other in chosen if other is not move)
        if search.fits(without):
            chosen = without
    for move in chosen:
        for rival in MOVES:
            if rival.price < move.price and any({rival.name, move.name} <= names for names in EXCLUSIVE):
                swapped = tuple(rival if other is move else other for other in chosen)
                if search.fits(swapped):
                    return swapped
    return chosen


def _quicker(search: _Search, chosen: Chosen) -> Chosen:
    """The moves, one of them replaced by another of about its price where the step then takes less time."""
    for move in chosen:
        best, least = chosen, _time_after(search, chosen)
        for rival in MOVES:
            alike = rival.safe and move.safe and 0 < abs(rival.price - move.price) <= ALIKE
            if least is None or not alike or rival in chosen:
                continue
            others = _compatible(tuple(other for other in chosen if other is not move), rival)
            swapped = tuple(sorted((*others, rival), key=lambda other: other.price))
            found = _time_after(search, swapped) if search.fits(swapped) else None
            if found is not None and found < least * WORTH_CHANGING:
                best, least = swapped, found
        if best is not chosen:
            return best
    return chosen


def _time_after(search: _Search, chosen: Chosen) -> float | None:
    """The estimated time of a step after all moves over that before; None where a part of it is not counted."""
    after = search.job(chosen)
    if after is None or any(move.name in UNCOUNTED for move in chosen):
        return None
    found = slowdown((search.start, search.simulate(search.start)), (after, search.simulate(after)))
    return middle(found) if found is not None and not found.left_out else None


def _without_idle(search: _Search, chosen: Chosen) -> Chosen:
    """The moves without those that make no difference worth saying at the end."""
    for move in sorted(chosen, key=lambda move: -move.price):
        without = tuple(other for other in chosen if other is not move)
        peak, least = search.peak(without), search.peak(chosen)
        if peak is not None and least is not None and peak <= least + WORTH_SAYING:
            chosen = without
    return chosen


def _relax_batch(search: _Search, chosen: Chosen) -> Chosen:
    """Keep the micro batch as large as fits: its divisors from above."""
    if all(move.name != BATCH_MOVE for move in chosen):
        return chosen
    for divisor in smaller_sizes(search.start.batch.micro_batch_size):
        search.micro_batch_size = divisor
        if search.fits(chosen):
            return chosen
    search.micro_batch_size = 1
    return chosen


def _relax_evaluation(search: _Search, chosen: Chosen) -> Chosen:
    """Keep the evaluation's batch as large as fits: its divisors from above."""
    evaluation = search.start.evaluation
    if evaluation is None or all(move.name != EVALUATION_MOVE for move in chosen):
        return chosen
    for divisor in smaller_sizes(evaluation.micro_batch_size):
        larger = evaluation_batch_move(divisor)
        relaxed = tuple(larger if move.name == EVALUATION_MOVE else move for move in chosen)
        if divisor > 1 and search.fits(relaxed):
            return relaxed
    return chosen


def _steps(run: Run, search: _Search, chosen: Chosen, write: Writer | None) -> tuple[Step, ...]:
    """The steps in order, each with what it takes off the peak after those before it."""
    steps = []
    final = search.job(chosen)
    adapted = final is not None and final.adapter is not None
    needs = _needs(search, chosen)
    for index, move in enumerate(chosen):
        saves = needs[index] - needs[index + 1]
        job = search.job(chosen[:index])
        changes = {} if job is None else _changes(move, job, search.micro_batch_size)
        written = write(run, changes) if write else None
        beside = job is not None and job.adapter is not None
        description, edits = written if written else (_in_words(move, changes, beside=beside), ())
        cost = (adapted and move.cost_beside_adapter) or move.cost
        steps.append(Step(description, saves, cost, move.safe, edits, _slowdown(search, chosen, index), move.package))
    return tuple(steps)


def _ordered(search: _Search, chosen: Chosen) -> Chosen:
    """The moves with those first that make a difference at once; what only helps behind others comes after them."""
    ordered: Chosen = ()
    rest = list(chosen)
    while rest:
        peak = search.peak(ordered) or 0
        helping = (move for move in rest if (search.peak((*ordered, move)) or peak) + WORTH_SAYING <= peak)
        move = next(helping, rest[0])
        ordered = (*ordered, move)
        rest.remove(move)
    return ordered


def _needs(search: _Search, chosen: Chosen) -> list[int]:
    """What the job needs before the first move and after each; between the ends by its tensors alone."""
    first, last = (search.need(moves) or 0 for moves in ((), chosen))
    lost = first - (search.peak(()) or 0)
    between = ((search.peak(chosen[:index]) or 0) + lost for index in range(1, len(chosen)))
    return [first, *between, last]


def _slowdown(search: _Search, chosen: Chosen, index: int) -> Slowdown | None:
    """What move number `index` does to the time of a step, where its cost is one that is counted."""
    before, after = search.job(chosen[:index]), search.job(chosen[: index + 1])
    if before is None or after is None or chosen[index].name in UNCOUNTED:
        return None
    return slowdown((before, search.simulate(before)), (after, search.simulate(after)))


def _changes(move: Move, job: Job, micro_batch_size: int) -> Changes:
    return batch_facts(job, micro_batch_size) if move.name == BATCH_MOVE else move.facts(job)


def _in_words(move: Move, changes: Changes, *, beside: bool) -> str:
    if move.name != BATCH_MOVE:
        return (beside and move.words_beside_adapter) or move.words
    return (
        f"micro batch size {changes['micro_batch_size']}, {changes['gradient_accumulation_steps']} accumulation steps"
    )
