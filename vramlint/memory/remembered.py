"""Functions of tensors that are run once for each kind of inputs and recorded again whenever they come back.

A long function that layers share, and that depends on nothing but the tensors that it is given, allocates and frees the
same in every layer, micro batch and variant of a job. Its graph is one node, whose derivative is remembered, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from msgspec import Struct

from vramlint.memory.frame import Frame
from vramlint.memory.passage import Holding, Kind, Passage, Rest, count_work, kinds_of, record
from vramlint.memory.rehearsal import Function, Rehearsal
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Storage, Tensor, only_reference

MODES = (
    "grad_enabled",
    "training",
    "autocast",
    "compiled",
    "positions_by_row",
    "observed",
    "keeps_linear_inputs",
    "stored_adapters",
    "card",
)
"""What of a tape decides what operators do."""
MOST_KEPT = 48
"""Passages that are remembered; one of the delta rule over 64 chunks takes less than a megabyte."""


class _Surroundings(Struct, frozen=True):
    """What a passage depends on besides its tensors."""

    modes: tuple[object, ...]
    component: str

    @classmethod
    def of(cls, tape: Tape) -> _Surroundings:
        return cls(tuple([getattr(tape, name) for name in MODES]), tape.recorder.component)


class _Forward(Struct, frozen=True):
    function: Function
    options: tuple[tuple[str, object], ...]
    kinds: tuple[Kind | None, ...]
    around: _Surroundings
    framed: bool

    def calls(self, function: Function, options: Mapping[str, object]) -> bool:
        """Whether it is a call of `function` with `options`."""
        return function == self.function and options == dict(self.options)


class _Again(Struct, frozen=True):
    forward: _Forward
    kinds: tuple[Kind | None, ...]
    around: _Surroundings
    stops: bool


class _Rest(Struct, frozen=True):
    forward: _Forward


class _Backward(Struct, frozen=True):
    of: _Forward | _Again | _Rest
    kinds: tuple[Kind | None, ...]
    alone: tuple[bool, ...]
    around: _Surroundings


_Key = _Forward | _Again | _Rest | _Backward
Kept = TypeVar("Kept")
_passages: dict[_Key, Passage] = {}
MOST_READY = 4
"""Rehearsals that wait to go on, with their graphs."""
_ready: dict[_Key, Rehearsal] = {}
"""Rehearsals that have come to a passage, of which what follows mostly is wanted next."""


def forget() -> None:
    """Let everything be rehearsed anew."""
    _passages.clear()
    _ready.clear()


class _Kept(Tensor):
    """Stands for all that a passage keeps, where a checkpoint keeps it."""

    __slots__ = ("holding", "key")

    def __init__(self, key: _Again, holding: Holding) -> None:
        super().__init__((0,), "uint8", None)
        self.key, self.holding = key, holding


def remembered(
    tape: Tape, function: Function, inputs: Sequence[Tensor], **options: object
) -> tuple[Tensor | None, ...]:
    """What `function(tape, *inputs, **options)` gives.

    No other operator that runs later may take the `inputs` that need a gradient, and nobody may differentiate other
    results than the first, whose graph stays as long as theirs.
    """
    needed = tape.grad_enabled and any(x.requires_grad for x in inputs)
    sink = tape.sink
    if needed and sink is not None:
        forward = sink.passages.get(len(sink.recomputed)) if isinstance(sink, Frame) else None
        if isinstance(sink, Frame) and isinstance(forward, _Forward) and forward.calls(function, options):
            return _again(tape, sink, forward, inputs)
        return tuple(function(tape, *inputs, **options))
    framed = needed and tape.frame is not None
    key = _Forward(function, tuple(sorted(options.items())), kinds_of(inputs), _Surroundings.of(tape), framed)
    if needed and not _separable(tape, inputs):
        return tuple(function(tape, *inputs, **options))
    passage = _passage(key)
    further = [x for x in passage.made[1:] if x is not None and x.requires_grad]
    if framed and (further or not passage.saves):  # a checkpoint that needs nothing of it does not come to it again
        return tuple(function(tape, *inputs, **options))
    done = record(tape.recorder, passage, _memory(key.kinds, inputs, 0))
    _count(tape, passage)
    tape.held += done.held
    if needed:
        node = tape.node(inputs, _differentiated)
        node.outputs = len(done.made)
        node.context = (key, done.holding)
        if tape.frame is not None:
            tape.frame.passages[tape.frame.count] = key
            tape.frame.take(node, 1)
        rest = None
        if further:
            rest = tape.node((), _not_differentiated)
            rest.context = Rest(node, done.holding, _passage(_Rest(key)))
        for slot, x in enumerate(done.made):
            if x is not None and x.requires_grad:
                x.node = rest if slot else node
    return tuple(done.made)


def _separable(tape: Tape, inputs: Sequence[Tensor]) -> bool:
    """Whether nobody looks into the graph: gradients come and go as those of one operator would."""
    if tape.frame is not None and tape.frame.selection is not None:
        return False
    ends = [(x.node, x.slot) for x in inputs if x.requires_grad]
    return len(set(ends)) == len(ends) and not any(x is leaf for x in inputs for leaf in tape.leaves)


def _again(tape: Tape, frame: Frame, forward: _Forward, inputs: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Run it again for a checkpoint.

    Raises:
        StopRecomputation: the checkpoint needs nothing more.
    """
    key = _Again(forward, kinds_of(inputs), _Surroundings.of(tape), frame.stops and frame.missing == 1)
    passage = _passage(key)
    done = record(tape.recorder, passage, _memory(key.kinds, inputs, 0))
    _count(tape, passage)
    tape.held += done.held
    kept = _Kept(key, done.holding)
    made = tuple(done.made)
    del done
    frame.keep([kept])
    return made


def _differentiated(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = [*node.unpack(tape)]
    of, holding = node.context
    kept = saved.pop() if saved else None
    if isinstance(kept, _Kept):
        of, holding = kept.key, kept.holding
    forward = of
    if not holding.whole:
        of = _Rest(of)
    kinds = kinds_of(gradients)
    alone = tuple([only_reference(gradients, at) for at in range(len(gradients))])
    key = _Backward(of, kinds, alone, _Surroundings.of(tape))
    passage = _passage(key)
    given = _memory(kinds, gradients, len(forward.kinds))
    gradients[:] = [None] * len(gradients)
    done = record(tape.recorder, passage, given, holding)
    holding.differentiated = True
    _count(tape, passage)
    return done.made


def _not_differentiated(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    raise RuntimeError("another result than the first of what is remembered has a gradient")


def _memory(kinds: Sequence[Kind | None], tensors: Sequence[Tensor | None], first: int) -> dict[int, Storage]:
    """Memory by its places, of which ~`first` is the first tensor's."""
    return {
        ~(first + number): x.storage
        for number, (kind, x) in enumerate(zip(kinds, tensors, strict=True))
        if kind is not None and kind.memory == number and x is not None and x.storage is not None
    }


def _count(tape: Tape, passage: Passage) -> None:
    course, times = tape.course, tape.recorder.current_repeat
    layers, differentiating = course.unit > 0, course.differentiating
    count_work(tape.meter, passage.work, times=times, layers=layers, differentiating=differentiating)


def _passage(key: _Key) -> Passage:
    found = _passages.get(key)
    if found is None:
        rehearsal, found = _rehearsed(key)
        _put(_ready, key, rehearsal, MOST_READY)
        _put(_passages, key, found, MOST_KEPT)
    return found


def _put(kept: dict[_Key, Kept], key: _Key, value: Kept, most: int) -> None:
    while len(kept) >= most:
        del kept[next(iter(kept))]
    kept[key] = value


def _rehearsed(key: _Key) -> tuple[Rehearsal, Passage]:
    """Run what leads to a passage, and the passage."""
    if isinstance(key, _Forward):
        rehearsal = Rehearsal(key.function, dict(key.options))
        _arrange(rehearsal, key.around)
        return rehearsal, rehearsal.forward(key.kinds, framed=key.framed)
    before = key.of if isinstance(key, _Backward) else key.forward
    rehearsal = _ready.pop(before) if before in _ready else _rehearsed(before)[0]
    if isinstance(key, _Rest):
        return rehearsal, rehearsal.rest()
    _arrange(rehearsal, key.around)
    if isinstance(key, _Again):
        return rehearsal, rehearsal.again(key.kinds, stops=key.stops)
    return rehearsal, rehearsal.backward(key.kinds, key.alone)


def _arrange(rehearsal: Rehearsal, around: _Surroundings) -> None:
    rehearsal.set_modes(dict(zip(MODES, around.modes, strict=True)), around.component)
