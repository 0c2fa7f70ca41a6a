"""Gradients of ZeRO 1 and 2 on their way into buckets (deepspeed 0.19.8 runtime/zero/stage_1_and_2.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from vramlint.memory.recorder import Label, Recorder
from vramlint.memory.tensor import Gradients, LayerId, Node, Parameter, Storage
from vramlint.memory.updates.memory import by_layer
from vramlint.memory.zero_partition import Copies, Piece, Schedule, arrivals, flattened, schedule_of

COMMUNICATION = "communication buffers"
NORM_BYTES = 8
"""Norms of gradients are taken in float64, of one gradient after the other (stage_1_and_2.py:2648, utils.py:59)."""


class Buckets(Struct, frozen=True):
    """What the reductions of one rank need. Sizes are bytes."""

    parameters: tuple[Parameter, ...]
    """All of the model, in its order."""
    pieces: tuple[Piece, ...]
    """Those that train, group by group."""
    capacity: int
    """Elements of a bucket."""
    width: int
    """Bytes of an element of a gradient."""
    buffer: int
    buffers: int
    own: int
    """The rank's own gradients; 0 where they go to the host."""
    during: bool
    """Gradients are reduced as they arrive, not when the last backward is over (stage 1 without overlap_comm)."""
    groups: tuple[tuple[Parameter, ...], ...]
    """In the order in which a reduction behind the backward takes them."""
    backwards: int
    """Backwards until the step, of which two are followed."""
    copies: Copies = flattened
    """What is copied when a bucket goes off."""
    measures: bool = False
    """The norm of a gradient is taken when its bucket goes off, before the gradient goes to the host."""
    gathered: Mapping[tuple[bool, LayerId | None], tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """Bytes of whole parameters while a layer kind runs, and while they arrive, forward (False) and backward (True): of
    stage 3. Of what is outside of layers for each time that layers are left, of a layer kind the most."""
    beside: Mapping[int, int] = field(default_factory=dict)
    """Of them those that are whole when backward runs the module of a parameter outside of layers, by its id."""
    second: Mapping[tuple[bool, LayerId | None], tuple[int, ...]] = field(default_factory=dict)
    """Bytes of secondary partitions of the weights that each run of a layer kind leaves behind, likewise."""
    pipelined: bool = False
    """A pipeline engine says when to reduce: when no backward is left."""
    late: bool = False
    """It makes the buffers then, too, where it does not run the backward of a loss."""
    retains_inputs: bool = False
    """As of FSDP's units: never."""


class ZeroBuckets:
    """The buckets of one process while it runs."""

    def __init__(self, units: Buckets, recorder: Recorder) -> None:
        self.units = units
        self.recorder = recorder
        self._schedule: Schedule | None = None
        """Known once forward has shown the order of the parameters."""
        self._buffers: list[Storage] = []
        self._own: Storage | None = None
        self._accumulated: Storage | None = None
        self._oversized: Gradients = []
        self._backwards = 0
        self._whole: Storage | None = None
        self._differentiates = False
        self._layers: Sequence[LayerId | None] = ()
        self._left = 0
        """How often layers were left in this pass."""
        self._visits: dict[tuple[bool, LayerId | None], int] = {}
        self._second: list[tuple[int, int]] = []

    def enter(self, layers: Sequence[LayerId | None], before: Sequence[LayerId | None]) -> None:
        """Gather what stage 3 has whole while one of `layers` runs."""
        stays = tuple(layers) == (None,)
        self._left += stays and tuple(self._layers) not in {(), (None,)}
        stays = stays and tuple(self._layers) == (None,)
        self._layers = layers
        found = [self.units.gathered.get((self._differentiates, layer), ((0, 0),)) for layer in layers]
        levels = [
            level[min(self._left if layer is None else 0, len(level) - 1)]
            for layer, level in zip(layers, found, strict=True)
        ]
        size, highest = (max(level) for level in zip(*levels, strict=True))
        if highest > size and not stays:
            arriving = self._new(highest, "all-gather", "gathered parameters")
            del arriving
        if size:
            self._whole = self._new(size, "all-gather", "gathered parameters")

    def leaves(self) -> None:
        """The unit that ran is over: what was whole for it goes as often as it came."""
        self._whole = None
        times = self.recorder.current_repeat
        for layer in self._layers if self.units.second else ():
            key = (self._differentiates, layer)
            first = self._visits.get(key, 0)
            self._visits[key] = first + times
            size = sum(self.units.second.get(key, ())[first : first + times]) // times
            if size:
                label = Label("secondary partition", "gathered parameters", "uint8", (size,))
                self._second.append((self.recorder.allocate(size, label), times))

    def backward_starts(self) -> None:
        """Buckets are made with the first gradient."""
        self._differentiates = True
        self._left, self._layers, self._whole = 0, (), None
        self.enter((None,), ())
        if self._schedule is None:
            units = self.units
            pieces = arrivals(units.parameters, units.pieces) if units.during else units.pieces
            self._schedule = schedule_of(pieces, units.capacity, units.copies)

    def runs(self, node: Node) -> None:
        """Buckets follow the gradients alone."""

    def take(self, parameter: Parameter, gradients: Gradients) -> bool:
        """A parameter's gradient is complete; whether it goes into a bucket now."""
        units = self.units
        if not self._buffers and units.buffer and not units.late:
            self._buffers = [self._new(units.buffer, "bucket", COMMUNICATION) for _ in range(units.buffers)]
        if not units.during:
            return False
        self._released(units.beside.get(id(parameter)))
        self._arrives(parameter)
        if parameter.numel > units.capacity:
            self._oversized = [gradients.pop()]
        gradients.clear()
        return True

    def _released(self, size: int | None) -> None:
        """Modules outside of layers are behind each other: what only those before had is not whole any more."""
        if size is not None and self._whole is not None and size < self.recorder.sizes[self._whole.index]:
            self._whole = None
            self._whole = self._new(size, "all-gather", "gathered parameters") if size else None

    def _arrives(self, parameter: Parameter) -> None:
        schedule = self._schedule
        assert schedule is not None  # noqa: S101  narrowing for the type checker
        copied = schedule.copies.get(id(parameter), 0)
        if copied:
            copy = self._new(copied * self.units.width, "flattened bucket", COMMUNICATION)
            del copy
        self._measure(schedule.largest.get(id(parameter), 0))
        if schedule.claims == id(parameter):
            self._claim()
        self._oversized = []

    def _measure(self, elements: int) -> None:
        """The norm is that of a float64 copy of the rank's slice (set_norm_for_param_grad_in_gpu)."""
        if elements and self.units.measures:
            copy = self._new(elements * NORM_BYTES, "float64 gradient", COMMUNICATION)
            del copy

    def _claim(self) -> None:
        if self._own is None and self.units.own:
            self._own = self._new(self.units.own, "gradients of the partition", "gradients")

    def _new(self, nbytes: int, operator: str, component: str) -> Storage:
        return Storage(self.recorder, nbytes, Label(operator, component, "uint8", (nbytes,)))

    def finish(self) -> None:
        """The whole backward is over."""
        self._backwards += 1
        self._differentiates = False
        self._left, self._layers = 0, ()
        self._whole = None
        if self.units.during:
            self._end()
        elif not self.units.pipelined and not self._backwards % self.units.backwards:
            self.reduce()

    def reduce(self) -> None:
        """Reduce what has waited for the last backward."""
        units = self.units
        if units.late:
            self._buffers = [self._new(units.buffer, "bucket", COMMUNICATION) for _ in range(units.buffers)]
        if not units.during:
            for group in units.groups:
                for times, members in by_layer(group):
                    self.recorder.repeat(times)
                    for parameter in members:
                        self._arrives(parameter)
                        parameter.drop_gradient()
            self.recorder.repeat(1)
            self._end()

    def _end(self) -> None:
        if self._schedule is not None and self._schedule.rest:
            copy = self._new(self._schedule.rest * self.units.width, "flattened bucket", COMMUNICATION)
            del copy
        if self._schedule is not None:
            self._measure(self._schedule.largest.get(None, 0))
        self._claim()
        self._oversized = []
        self._buffers.clear()
        if self._accumulated is None:
            self._accumulated = self._own
        self._own = None

    def stepped(self) -> None:
        """The optimizer has used the gradients, and secondary partitions are old."""
        self._accumulated = None
        for index, times in self._second:
            self.recorder.free(index, times)
        self._second = []
        self._visits = {}
