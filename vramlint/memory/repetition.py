"""Which of a model's layers are traced, and how many each of them stands for.

Equal layers behave equally except next to their ends, so of a run of equal layers (or of equal groups of layers, where
kinds alternate) the first two and the last are traced by themselves, and the third stands for all others: what it
frees of the second tells what each of the others frees of the one before it.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from vramlint.job import Adapter, Job
from vramlint.patterns import lazy

SINGLE_LAYERS = 4
"""Of a run of so many equal groups each is traced by itself."""
_NUMBER = lazy(r"\d|\\d")
"""What tells layers apart in a pattern: a digit, or the class of digits."""
LONGEST_PERIOD = 16
"""Alternations of layer kinds with longer periods are traced layer by layer."""


class Stretch(NamedTuple):
    """Neighbouring layers that are traced once and executed `times` times in a row."""

    start: int
    """Number of the first of them in its stack."""
    length: int
    times: int


class Layout:
    """Cuts the stacks of one model into stretches, one stack after the other.

    Whoever builds the weights and whoever runs the layers has one of its own; both cut alike.
    """

    __slots__ = ("checkpoint_every", "layers", "single")

    def __init__(self, checkpoint_every: int = 1, *, single: bool = False) -> None:
        self.checkpoint_every = checkpoint_every
        self.single = single
        self.layers = 0
        """Layers of the stacks that are cut."""

    @classmethod
    def of(cls, job: Job) -> Layout:
        """The layout of a job: patterns that name single layers make every layer a kind of its own."""
        projected = job.optimizer.target_modules
        patterns = [*job.frozen_parameters, *(projected if isinstance(projected, tuple) else [projected or ""])]
        single = any(_NUMBER.search(pattern) for pattern in patterns) or _single(job.adapter)
        every = job.checkpointing.every_n_layers if job.checkpointing.mode != "none" else 1
        return cls(max(1, every), single=single)

    def cut(self, kinds: int | Sequence[Hashable]) -> list[Stretch]:
        """The stretches of the next stack, given by its layers' kinds or, if all are equal, by their number."""
        kinds = [None] * kinds if isinstance(kinds, int) else kinds
        first, self.layers = self.layers, self.layers + len(kinds)
        if self.single:
            return [Stretch(number, 1, 1) for number in range(len(kinds))]
        if self.checkpoint_every > 1:
            kinds = [(kind, self.checkpoints(first + number)) for number, kind in enumerate(kinds)]
        return stretches(kinds)

    def checkpoints(self, layer: int) -> bool:
        """Whether a layer, counted over all stacks, is recomputed in backward."""
        return layer % self.checkpoint_every == 0


def _single(adapter: Adapter | None) -> bool:
    """Whether an adapter tells layers apart."""
    if adapter is None:
        return False
    wanted = (adapter.target_modules, adapter.exclude_modules)
    patterns = [*adapter.rank_pattern, *(pattern for pattern in wanted if isinstance(pattern, str))]
    names = [name for listed in (*wanted, adapter.target_parameters) if isinstance(listed, tuple) for name in listed]
    return bool(
        adapter.layers_to_transform
        or any(_NUMBER.search(pattern) for pattern in patterns)
        or any(re.search(r"(^|\.)\d+\.", name) for name in names)
    )


def stretches(kinds: Sequence[Hashable]) -> list[Stretch]:
    """Cut a stack of layers, given by their kinds, into stretches.

    Every layer is in exactly one stretch or, as a repetition, behind it. At each place the period is taken that
    leaves the fewest layers to trace.
    """
    found: list[Stretch] = []
    start = 0
    while start < len(kinds):
        period, times = _best_period(kinds, start)
        found += [Stretch(start + at * period, period, count) for at, count in _ends_and_middle(times)]
        start += period * times
    return found


def _best_period(kinds: Sequence[Hashable], start: int) -> tuple[int, int]:
    """(length, repetitions) of the group of layers at `start` that saves the most tracing; (1, 1) if none does."""
    best, saved = (1, 1), 0
    for period in range(1, min(LONGEST_PERIOD, (len(kinds) - start) // 2) + 1):
        times = _repetitions(kinds, start, period)
        saves = period * (times - len(_ends_and_middle(times)))
        if saves > saved:
            best, saved = (period, times), saves
        if period * times == len(kinds) - start:
            break  # no longer period can cover more, and each is a multiple of this one
    return best


def _repetitions(kinds: Sequence[Hashable], start: int, period: int) -> int:
    end = start + period
    while end < len(kinds) and kinds[end] == kinds[end - period]:
        end += 1
    return (end - start) // period


def _ends_and_middle(times: int) -> list[tuple[int, int]]:
    """(position, times) of each traced one among `times` equal groups."""
    if times <= SINGLE_LAYERS:
        return [(at, 1) for at in range(times)]
    return [(0, 1), (1, 1), (2, times - 3), (times - 1, 1)]
