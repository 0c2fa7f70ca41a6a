"""A function of tensors run by itself, to see what it allocates and frees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from vramlint.job import Checkpointing
from vramlint.memory.autograd import Engine
from vramlint.memory.frame import Frame, StopRecomputation
from vramlint.memory.passage import Events, Kind, Made, Passage
from vramlint.memory.recorder import Event, Label, Recorder
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Storage, Tensor
from vramlint.memory.thinning import thinned

Function = Callable[..., Sequence["Tensor | None"]]
"""Takes a tape and tensors and gives tensors. It has no parameters and leaves nothing behind but graph and results."""


class Rehearsal:
    """The function's forward, its recomputation where a checkpoint is around it, and its derivative, in this order."""

    def __init__(self, function: Function, options: Mapping[str, object]) -> None:
        self.function, self.options = function, options
        self._recorder = Recorder()
        self._recorder.begin("rehearsal")
        self._tape = Tape(self._recorder)
        self._events = self._recorder.blocks[0].events
        self._frame: Frame | None = None
        self._inputs = 0
        self._roots: list[tuple[Node, int] | None] = []
        self._arrived: list[Gradients] = []
        self._left: dict[int, int] = {}
        """Numbers of what the passage before has kept, by index."""
        self._places: dict[int, int] = {}
        """Places of memory that others may refer to, by index."""
        self._numbers: dict[int, int] = {}
        """Numbers of what the passage at hand allocates, by index."""

    def set_modes(self, modes: Mapping[str, object], component: str) -> None:
        """The modes of the tape, and the component that tensors count to, from here on."""
        for name, value in modes.items():
            setattr(self._tape, name, value)
        self._recorder.component = component

    def forward(self, kinds: Sequence[Kind | None], *, framed: bool) -> Passage:
        """Run the function; where it is `framed`, a checkpoint is around it."""
        tape = self._tape
        inputs = self._given(kinds, 0)
        self._arrived = [[] for _ in inputs]
        for at, arrived in enumerate(self._arrived):
            self._await(inputs[at], arrived)
        if framed:
            tape.frame = self._frame = Frame(_nothing, (), tape.autocast, Checkpointing("nonreentrant"))
        passage = self._passed(inputs)
        tape.frame = None
        return passage._replace(saves=self._frame is not None and self._frame.count > 0)

    def again(self, kinds: Sequence[Kind | None], *, stops: bool) -> Passage:
        """Run it for what it saves; where it `stops`, no further than the last that it saves."""
        frame = self._frame
        assert frame is not None  # noqa: S101  narrowing: only what is framed runs again
        frame.stops = stops
        self._tape.sink = frame
        passage = self._passed(self._given(kinds, 0))
        self._tape.sink = None
        return passage

    def backward(self, kinds: Sequence[Kind | None], alone: Sequence[bool]) -> Passage:
        """Differentiate it; `alone` are gradients that nobody else refers to."""
        tape = self._tape
        gradients = self._given(kinds, self._inputs)
        others = [x for x, own in zip(gradients, alone, strict=True) if x is not None and not (own or x.view)]
        start, base = len(self._events), len(self._recorder.sizes)
        tape.meter.reset()
        tape.course.differentiating = True
        Engine(tape).run_handed(self._roots, gradients)
        tape.course.differentiating = False
        stop = len(self._events)
        runs = self._runs(start, stop, base)
        made = self._described([arrived[0] if arrived else None for arrived in self._arrived])
        freed = {index for index, _ in self._events[start:stop]}
        left = [number for index, number in self._left.items() if index not in freed]
        del others
        for arrived in self._arrived:
            arrived.clear()
        return self._passage(runs, made, (), left, ())

    def _await(self, x: Tensor | None, arrived: Gradients) -> None:
        """Have the gradient of an input end up in `arrived`."""
        if x is not None and x.requires_grad and self._tape.grad_enabled:
            x.node = self._tape.node((), _arrives)
            x.node.context = arrived

    def rest(self) -> Passage:
        """Let go of the graph of all results but the first."""
        start, base = len(self._events), len(self._recorder.sizes)
        self._roots[1:] = [None] * len(self._roots[1:])
        runs = self._runs(start, len(self._events), base)
        freed = {index for index, _ in self._events[start:]}
        self._left = {index: number for index, number in self._left.items() if index not in freed}
        self._tape.meter.reset()
        return self._passage(runs, (), (), [*self._left.values()], ())

    def _given(self, kinds: Sequence[Kind | None], first: int) -> list[Tensor | None]:
        """Tensors of `kinds`; the place of the first one's memory is ~`first`."""
        storages: dict[int, Storage] = {}
        tensors: list[Tensor | None] = []
        for number, kind in enumerate(kinds):
            if kind is None:
                tensors.append(None)
                continue
            x = Tensor(kind.shape, kind.dtype, None)
            x.requires_grad, x.heads_first, x.view = kind.requires_grad, kind.heads_first, kind.view
            if kind.memory is not None:
                if kind.memory == number:
                    label = Label("given", "given", kind.dtype, kind.shape)
                    storages[number] = Storage(self._recorder, x.nbytes, label)
                    self._places[storages[number].index] = ~(first + number)
                x.storage = storages[kind.memory]
            tensors.append(x)
        return tensors

    def _passed(self, inputs: list[Tensor | None]) -> Passage:
        """Run the function over `inputs`, which are handed over."""
        tape, recorder, events = self._tape, self._recorder, self._events
        self._inputs = len(inputs)
        given = {x.storage.index for x in inputs if x is not None and x.storage is not None}
        start, base = len(events), len(recorder.sizes)
        tape.meter.reset()
        results: list[Tensor | None] = []
        with suppress(StopRecomputation):
            results += self.function(tape, *inputs, **self.options)
        stop = len(events)
        gone = {index for index, _ in events[start:stop]} & given
        runs = self._runs(start, stop, base)
        made, held = self._described(results), self._described(tape.held)
        if tape.sink is None:
            self._roots = [None if x is None or x.node is None else (x.node, x.slot) for x in results]
        results.clear()
        tape.held.clear()
        inputs.clear()
        alive = self._alive(base)
        numbers, places = self._numbers, {x.place for x in (*made, *held) if x is not None}
        escaping = {index for index in alive if numbers[index] in places}
        if gone or len(recorder.blocks) > 1 or recorder.lasting or recorder.once or not tape.lifetimes.empty:
            raise RuntimeError(f"{self.function} leaves more behind than its results")
        self._left = {index: numbers[index] for index in alive if index not in escaping}
        freed = {index for index, _ in events[stop:]}
        kept = [index for index in sorted(given) if index not in freed]
        shared = [*(numbers[index] for index in sorted(escaping)), *(self._places[index] for index in kept)]
        self._places |= {index: numbers[index] for index in escaping}
        return self._passage(runs, made, [x for x in held if x is not None], [*self._left.values()], shared)

    def _alive(self, base: int) -> list[int]:
        """What has been allocated from `base` on, and is there."""
        counts: Counter[int] = Counter()
        for index, count in self._events:
            if index >= base:
                counts[index] += count
        return [index for index, count in counts.items() if count]

    def _runs(self, start: int, stop: int, base: int) -> list[tuple[Events, int | None]]:
        """The events of a passage that allocates from index `base` on; what it allocates is numbered."""
        self._numbers = {}
        runs: list[tuple[Events, int | None]] = []
        events: list[Event] = []
        for index, count in self._events[start:stop]:
            if index >= base or index in self._left:
                events.append((index, count))
            else:
                runs.append((self._numbered(events, base), self._places[index]))
                events = []
        return [*runs, (self._numbered(events, base), None)]

    def _numbered(self, events: Sequence[Event], base: int) -> Events:
        sizes, labels, numbers = self._recorder.sizes, self._recorder.labels, self._numbers
        return [
            (numbers.setdefault(index, len(numbers)) if index >= base else ~self._left[index], count)
            for index, count in thinned(events, sizes, lambda index: (labels[index].operator, sizes[index]))
        ]

    def _described(self, tensors: Sequence[Tensor | None]) -> list[Made | None]:
        first: dict[int, int] = {}
        found: list[Made | None] = []
        for number, x in enumerate(tensors):
            if x is None:
                found.append(None)
                continue
            index = None if x.storage is None else x.storage.index
            place = None if index is None else self._numbers.get(index, self._places.get(index))
            at = first.setdefault(id(x), number)
            found.append(Made(x.shape, x.dtype, x.requires_grad, x.heads_first, x.view, place, at))
        return found

    def _passage(
        self,
        runs: Sequence[tuple[Events, int | None]],
        made: Sequence[Made | None],
        held: Sequence[Made],
        left: Sequence[int],
        shared: Sequence[int],
    ) -> Passage:
        sizes = [self._recorder.sizes[index] for index in self._numbers]
        labels: dict[tuple[object, ...], Label] = {}
        same = [
            labels.setdefault((label.operator, label.component, label.dtype, label.shape), label)
            for label in map(self._recorder.labels.__getitem__, self._numbers)
        ]
        return Passage(sizes, same, runs, self._tape.meter.read(), made, held, left, shared)


def _arrives(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """A gradient comes out."""
    node.context.append(gradients[0])
    return ()


def _nothing(*_: Tensor | None) -> tuple[Tensor, ...]:
    """What the checkpoint of a rehearsal runs again: `Rehearsal.again` does that."""
    return ()
