"""The memory of one optimizer step: tensors that come with an operator and go with Python's last reference to them.

An update that is written like the library's step, statement by statement, has the lifetimes of the library's step: an
operand lives until its operator has returned, and what a name stood for until the name stands for something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

from vramlint.job import DTYPE_BYTES
from vramlint.memory.recorder import Label, Recorder
from vramlint.memory.reductions import Multiprocessors, partial_sums
from vramlint.memory.tensor import Parameter, Shape, Storage, Tensor


def by_layer(parameters: Sequence[Parameter]) -> Iterator[tuple[int, list[Parameter]]]:
    """(times, parameters): neighbours in the model's order, and how often their layers repeat in a row."""
    for stretch, found in groupby(parameters, key=lambda parameter: parameter.stretch):
        members = list(found)
        if stretch is None:
            yield from ((parameter.multiplicity, [parameter]) for parameter in members)
        else:
            yield members[0].multiplicity, members


def by_dtype(parameters: Sequence[Parameter]) -> Iterator[list[Parameter]]:
    """What foreach kernels take at once (torch 2.13 torch/utils/_foreach_utils.py)."""
    for dtype in dict.fromkeys(parameter.dtype for parameter in parameters):
        yield [parameter for parameter in parameters if parameter.dtype == dtype]


class Copies:
    """A list with one new tensor for each of some parameters, gone with the list."""

    __slots__ = ("_parts", "_repeat")

    def __init__(self, repeat: Callable[[int], None], parts: list[tuple[int, list[Tensor]]]) -> None:
        self._repeat = repeat
        self._parts = parts

    def __del__(self) -> None:
        while self._parts:
            times, tensors = self._parts.pop()
            self._repeat(times)
            while tensors:
                tensors.pop()
        self._repeat(1)


class Many:
    """Equal tensors that come at once and go at once."""

    __slots__ = ("_count", "_index", "_recorder")

    def __init__(self, recorder: Recorder, nbytes: int, count: int, label: Label) -> None:
        self._recorder, self._count = recorder, count
        self._index = recorder.allocate_many(nbytes, count, label)

    def __del__(self) -> None:
        self._recorder.free(self._index, self._count)


class Memory:
    """What one step allocates.

    The log of one step stands for the first and for all later ones: what only the first allocates (states, above all)
    and what only later ones do is marked as such.
    """

    __slots__ = ("_card", "_marked", "_name", "_repeats", "first", "later", "recorder")

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        *,
        first: bool = True,
        later: bool = True,
        repeats: bool = True,
        card: Multiprocessors | None = None,
    ) -> None:
        self.recorder = recorder
        self._card = card
        """Where the kernels run; None where their own memory does not show."""
        self.first = first
        """Whether the step may be the first."""
        self.later = later
        """Whether the step may be a later one."""
        self._name = name
        self._repeats = repeats
        """Whether parameters are gone through layer by layer; in a backward the tape does it."""
        self._marked: set[int] | None = None

    # ------------------------------------------------------------------ tensors

    def empty(self, shape: Shape, dtype: str) -> Tensor:
        """A new tensor."""
        tensor = Tensor(shape, dtype, None)
        storage = Storage(self.recorder, tensor.nbytes, Label(self._name, "temporaries", dtype, shape))
        if self._marked is not None:
            self._marked.add(storage.index)
        tensor.storage = storage
        return tensor

    def summed(self, whole: Shape, reduced: Shape, dtype: str) -> Tensor:
        """The sum, mean or norm of a tensor of shape `whole` over some dimensions."""
        result = self.empty(reduced, dtype)
        buffer = partial_sums(self._card, whole, reduced) if self._card else 0
        if buffer:
            partial = self.empty((buffer,), "uint8")
            del partial
        return result

    def like(self, operand: Tensor, *_others: object, dtype: str | None = None) -> Tensor:
        """The result of an operator by elements over `operand`, and others of its shape or smaller."""
        return self.empty(operand.shape, dtype or operand.dtype)

    def to(self, operand: Tensor, dtype: str) -> Tensor:
        """`operand.to(dtype)`: itself if it has that dtype, else a copy."""
        return operand if operand.dtype == dtype else self.empty(operand.shape, dtype)

    def scalar(self, dtype: str = "float32") -> Tensor:
        """A tensor of one element, as a norm is."""
        return self.empty((), dtype)

    def copies(self, parameters: Sequence[Parameter], dtype: str | None = None) -> Copies:
        """The result of a foreach operator: a tensor for every parameter, of its shape."""
        return self.list_of(parameters, lambda shape: shape, dtype)

    def list_of(
        self, parameters: Sequence[Parameter], shape_of: Callable[[Shape], Shape], dtype: str | None = None
    ) -> Copies:
        """A tensor for every parameter, whose shape is a function of the parameter's."""
        parts = []
        for times, members in by_layer(parameters):
            self._repeat(times)
            parts.append((times, [self.empty(shape_of(p.shape), dtype or p.dtype) for p in members]))
        self._repeat(1)
        return Copies(self._repeat, parts)

    def scalars(self, count: int, dtype: str) -> Many:
        """`count` tensors of one element, as norms are."""
        return Many(self.recorder, DTYPE_BYTES[dtype], count, Label(self._name, "temporaries", dtype, ()))

    def state(self, nbytes: int) -> None:
        """A tensor of the optimizer's state, which the first step makes and which stays."""
        if self.first:
            self.recorder.allocate_once(nbytes, Label("optimizer state", "optimizer states", "uint8", (nbytes,)))

    def renewed(self, shape: Shape, dtype: str) -> Tensor | None:
        """A tensor of the state that every step makes anew: the first keeps it, later ones let go of one as large."""
        if self.first:
            self.state(Tensor(shape, dtype, None).nbytes)
        if not self.later:
            return None
        with self.in_later():
            return self.empty(shape, dtype)

    # ------------------------------------------------------------------ courses

    def each(self, parameters: Sequence[Parameter]) -> Iterator[Parameter]:
        """The parameters one after the other: what happens to one happens in all layers that it stands for."""
        for times, members in by_layer(parameters):
            self._repeat(times)
            yield from members
        self._repeat(1)

    def each_of(self, groups: Iterable[Sequence[Parameter]]) -> Iterator[Parameter]:
        """The same over several groups, in libraries whose loop's variables outlive a group."""
        for parameters in groups:
            yield from self.each(parameters)

    def _repeat(self, times: int) -> None:
        if self._repeats:
            self.recorder.repeat(times)

    @contextmanager
    def in_later(self) -> Iterator[None]:
        """What is allocated here only later steps allocate. To be entered only if the step may be a later one."""
        before, self._marked = self._marked, self.recorder.later if self.first else None
        try:
            yield
        finally:
            self._marked = before
