"""Where in the model a run is: the units of repetition (layers), and what sharding gathers for them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from vramlint.memory.fully_shard import FullyShard
from vramlint.memory.fully_sharded import FullySharded
from vramlint.memory.recorder import Label, Recorder
from vramlint.memory.repetition import Layout
from vramlint.memory.tensor import LayerId, Storage, Tensor
from vramlint.memory.zero_buckets import ZeroBuckets


class Course:
    """The run of one process through its model, forward and backward.

    A unit is one stretch of layers in one pass; 0 is everything outside of layers.
    """

    __slots__ = (
        "_first_layers",
        "_gathered",
        "_layers",
        "_layout",
        "_numbers",
        "_recorder",
        "_repeats",
        "differentiating",
        "gathered",
        "recomputes",
        "sharded",
        "unit",
    )

    def __init__(self, recorder: Recorder, layout: Layout) -> None:
        self._recorder = recorder
        self._layout = layout
        self.unit = 0
        """The unit that runs."""
        self.recomputes = True
        """Whether the layer that runs is one of those that checkpointing recomputes."""
        self.differentiating = False
        """Whether a backward runs: a reentrant checkpoint runs another one inside."""
        self.gathered: Mapping[LayerId | None, int] = {}
        """Bytes of full parameters that each layer kind gathers while it runs."""
        self.sharded: FullySharded | FullyShard | ZeroBuckets | None = None
        """FSDP's units, or ZeRO's buckets, where such run."""
        self._gathered: Storage | None = None
        # of each unit
        self._repeats = [1]
        self._layers: list[list[LayerId | None]] = [[None]]
        self._numbers: list[Sequence[int]] = [()]
        # of each stack
        self._first_layers: dict[int, int] = {}

    def start(self) -> None:
        """A forward begins: the next stack is the model's first."""
        self.enter(0)
        self._layout.layers = 0

    def enter(self, unit: int) -> None:
        """Go on in `unit`: events recorded from here on happen as often as that unit is repeated.

        Where parameters are sharded, the unit's are gathered now and until it is left.
        """
        self._gathered = None
        if self.sharded is not None:
            self.sharded.leaves()
        self.go_on_in(unit)
        if self.sharded is not None:
            self.sharded.enter(self._layers[unit], self._before(unit))
            return
        size = max(self.gathered.get(layer, 0) for layer in self._layers[unit])
        if size:
            self._gathered = Storage(self._recorder, size, Label("all-gather", "gathered parameters", "uint8", (size,)))

    def _before(self, unit: int) -> Sequence[LayerId | None]:
        """The layers that backward comes to next; of repeated ones the same again."""
        repeats = self._repeats[unit] > 1 or len(self._layers[unit]) > 1
        return self._layers[unit if repeats else max(0, unit - 1)]

    def returns(self) -> None:
        """The model's forward is over; a loss that is taken outside of it comes now."""
        if isinstance(self.sharded, FullyShard):
            self.sharded.returns()

    def backward_starts(self) -> None:
        """The outermost backward begins."""
        self.differentiating = True
        if self.sharded is not None:
            self.sharded.backward_starts()

    def backward_ends(self) -> None:
        """The outermost backward is over."""
        self.differentiating = False
        if self.sharded is not None:
            self.sharded.finish()

    def go_on_in(self, unit: int) -> None:
        """Record events of `unit` from here on, without gathering its parameters."""
        self.unit = unit
        self._recorder.repeat(self._repeats[unit], self._numbers[unit])

    @contextmanager
    def within(self, unit: int) -> Iterator[None]:
        """Record what happens as often as `unit` is repeated, but outside of its layer: nothing is gathered."""
        before = self.unit
        self.go_on_in(unit)
        try:
            yield
        finally:
            self.go_on_in(before)

    def unit_of(self, layer: LayerId | None) -> int:
        """The latest unit that a layer ran in."""
        units = range(len(self._layers) - 1, -1, -1)
        return next((unit for unit in units if layer in self._layers[unit]), 0)

    def repeat(
        self,
        kinds: int | Sequence[Hashable],
        layer: Callable[[Tensor, int], Tensor],
        entering: list[Tensor],
        *,
        stack: int = 0,
    ) -> Tensor:
        """Apply a stack of layers, given by their kinds or, if all are equal, by their number.

        `layer(x, position)` runs the traced layer of that position, as Builder.layers made them. The first gets what
        `entering` holds alone, which is handed over in it. `stack` tells a decoder's layers from its encoder's.
        """
        hidden = entering.pop()
        position, outer = 0, self.unit
        first = self._first_layer(stack)
        try:
            for stretch in self._layout.cut(kinds):
                numbers = range(first + stretch.start, first + stretch.start + stretch.length)
                self._repeats.append(stretch.times)
                self._numbers.append(numbers)
                self._layers.append([(stack, stretch.start + offset) for offset in range(stretch.length)])
                self.enter(len(self._repeats) - 1)
                for number in numbers:
                    self.recomputes = self._layout.checkpoints(number)
                    hidden = layer(hidden, position)
                    position += 1
        finally:  # the recomputation of a checkpointed stack may end inside it
            self.enter(outer)
        return hidden

    def _first_layer(self, stack: int) -> int:
        """The number of a stack's first layer; in a recomputation the same as before."""
        if self.differentiating:
            self._layout.layers = self._first_layers[stack]
        self._first_layers[stack] = self._layout.layers
        return self._layout.layers
