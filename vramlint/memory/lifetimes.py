"""Tensors that outlive the layer that made them (cached keys, cast weights), and how they die layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

from vramlint.memory.course import Course
from vramlint.memory.tensor import Tensor


class Kept(NamedTuple):
    """A tensor that outlives its layer (a cast weight, a cached key), and the unit that made it."""

    tensor: Tensor
    unit: int


class Lifetimes:
    """What one process keeps, and until when."""

    __slots__ = ("_cache", "_course", "_retained", "outlived")

    def __init__(self, course: Course) -> None:
        self._course = course
        self.outlived = False
        """A hand-written loop: the loss, and with it the graph, is bound until the next forward has run."""
        self._cache: list[Kept] = []
        """Keys and values that the model's outputs refer to."""
        self._retained: list[Kept] = []
        """What lives until the backward is over: by hooks of sharded units, and by attributes of graph nodes."""

    def of(self, tensor: Tensor) -> Kept:
        """`tensor` with the unit that runs."""
        return Kept(tensor, self._course.unit)

    @property
    def empty(self) -> bool:
        """Whether nothing is kept."""
        return not (self._cache or self._retained)

    def keep(self, tensor: Tensor) -> None:
        """Keep a layer's key or value until `drop(taken_cache())`."""
        self._cache.append(self.of(tensor))

    def taken_cache(self) -> list[Kept]:
        """What `keep` collected; a new list is started."""
        cache, self._cache = self._cache, []
        return cache

    def retain(self, tensors: Sequence[Tensor]) -> None:
        """Keep tensors of a frozen sharded layer until the backward is over."""
        sharded = self._course.sharded
        if sharded is not None and sharded.units.retains_inputs:
            self._retained += [self.of(tensor) for tensor in tensors]

    def bind(self, tensor: Tensor) -> None:
        """Keep `tensor` as long as the graph, of which it is an attribute."""
        (self._cache if self.outlived else self._retained).append(self.of(tensor))

    def drop(self, kept: list[Kept]) -> None:
        """Empty `kept`, each layer's tensors in that layer's unit: they go as often as they came."""
        course = self._course
        unit = course.unit
        kept.sort(key=attrgetter("unit"), reverse=True)
        while kept:
            if kept[-1].unit != course.unit:
                course.go_on_in(kept[-1].unit)
            kept.pop()
        if course.unit != unit:
            course.go_on_in(unit)

    def backward_ends(self) -> None:
        """Drop what was retained for it."""
        self.drop(self._retained)
