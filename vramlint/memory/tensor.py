"""Symbolic tensors and the graph that autograd builds over them.

A tensor has shape, dtype and storage. A storage's death is recorded when Python drops its last reference.

Reference counting is what frees tensors in PyTorch's eager mode too, so an architecture that is written
like the model's own forward has the model's own lifetimes.

Before 3.11 Python holds what one function gives another one until that returns. A tensor that the callee is to let go
of earlier is handed over in a list, which it empties, so that all versions of Python agree.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Protocol

from vramlint.job import DTYPE_BYTES
from vramlint.memory.recorder import Label, Recorder

Shape = tuple[int, ...]
LayerId = tuple[int, int]
"""A layer: its stack (0, a decoder's beside an encoder 1) and its number there."""


class Storage:
    """Device memory behind one or several tensors."""

    __slots__ = ("index", "recorder", "released")

    def __init__(self, recorder: Recorder, nbytes: int, label: Label) -> None:
        self.recorder = recorder
        self.index = recorder.allocate(nbytes, label)
        self.released = False

    @classmethod
    def adopted(cls, recorder: Recorder, index: int) -> Storage:
        """Memory that is recorded already."""
        storage = cls.__new__(cls)
        storage.recorder, storage.index, storage.released = recorder, index, False
        return storage

    def __del__(self) -> None:
        if not self.released:  # what most of a trace's calls would be is written out
            self.recorder.events.append((self.index, -1))

    def release(self) -> None:
        """Free now, whoever refers to it."""
        self.released = True
        self.recorder.free(self.index)

    def take(self, other: Storage) -> None:
        """Have the memory of `other` after the own was released; this one frees it from now on."""
        self.index, self.released, other.released = other.index, False, True


class Tensor:
    """A tensor of known shape and dtype.

    `view` is True when other tensor objects may share the storage (the autograd engine then never adds into
    it). `heads_first` is True when a [B, heads, S, d] tensor lies in memory in that order, False when it is
    a transposed view of [B, S, heads, d]; True, too, when a [B, S, H] tensor is a transposed view of [B, H, S].
    """

    __slots__ = ("dtype", "heads_first", "node", "requires_grad", "shape", "slot", "storage", "view")

    def __init__(self, shape: Shape, dtype: str, storage: Storage | None) -> None:
        self.shape = shape
        self.dtype = dtype
        self.storage = storage
        self.requires_grad = False
        self.node: Node | None = None
        self.slot = 0
        self.view = False
        self.heads_first = False

    @property
    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, unrounded."""
        return prod(self.shape) * DTYPE_BYTES[self.dtype]

    def as_shape(self, shape: Shape) -> Tensor:
        """A view of another shape: same storage, same place in the graph."""
        out = Tensor(shape, self.dtype, self.storage)
        out.requires_grad, out.node, out.slot = self.requires_grad, self.node, self.slot
        out.view = True
        return out


class Rows(Protocol):
    """An adapter on the rows of an embedding."""

    def looked_up(self, tape: Any, indices: Tensor, weight: Parameter) -> Tensor:  # noqa: ANN401  as of Recomputed
        """The embeddings of `indices`."""


class Parameter(Tensor):
    """A leaf: a weight, its gradient, and how many like it the model has (layers repeat)."""

    __slots__ = (
        "embedding",
        "grad",
        "head",
        "layer",
        "linear",
        "multiplicity",
        "name",
        "nbytes",
        "numel",
        "pending",
        "reached",
        "rows",
        "shared_by",
        "stepped",
        "stored_tensors",
        "stretch",
        "twin",
        "used",
        "whole_gradient",
    )

    numel: int
    nbytes: int

    def __init__(self, name: str, shape: Shape, dtype: str, *, trainable: bool, multiplicity: int) -> None:
        super().__init__(shape, dtype, None)
        self.numel = prod(shape)  # asked for again and again
        self.nbytes = self.numel * DTYPE_BYTES[dtype]
        self.name = name
        self.requires_grad = trainable
        self.multiplicity = multiplicity
        self.grad: Tensor | None = None
        self.reached = False
        """Whether a gradient ever came."""
        self.embedding = False
        """The token embedding's weight."""
        self.head = False
        """The output head's weight, unless it is the embedding's."""
        self.shared_by: tuple[int, int] | None = None
        """Under FSDP 2: how many ranks share an expert's weight that some have, and by which dimension."""
        self.twin = False
        """It shares what it stores, its gradient and its states with another one, and is gathered by itself."""
        self.whole_gradient = False
        """Its gradient has the memory of all ranks' parts until it is reduced."""
        self.rows: Rows | None = None
        """An adapter on its rows, where it is an embedding's."""
        self.linear = False
        """The weight of an nn.Linear."""
        self.stepped = True
        """An optimizer that trains it has it, and clears its gradient."""
        self.pending = 0
        """Uses in the graph whose gradient has not arrived yet."""
        self.used: int | None = None
        """Number of the operator that was the first to use it."""
        self.layer: LayerId | None = None
        """The traced layer that it belongs to; None outside layers."""
        self.stretch: LayerId | None = None
        """The first layer of the stretch of traced layers that it belongs to; None outside layers."""
        self.stored_tensors: tuple[int, ...] = (self.nbytes,)
        """Bytes of each tensor that stores it (packed weight and quantization constants)."""

    @property
    def stored_bytes(self) -> int:
        """Bytes on the device, unrounded; less than `nbytes` for a quantized weight."""
        return sum(self.stored_tensors)

    def drop_gradient(self) -> None:
        """`parameter.grad = None`; to be repeated for every layer that the parameter stands for."""
        gradient, self.grad = self.grad, None
        if gradient is not None and gradient.storage is not None:
            gradient.storage.release()


class Recomputed(Protocol):
    """A checkpoint that will recompute what its nodes saved."""

    def unpack(self, tape: Any, node: Node) -> Sequence[Tensor]:  # noqa: ANN401  the tape knows tensors, not they it
        """The saved tensors of `node`, handed over."""

    def runs_again(self) -> None:
        """Another backward begins, which recomputes for itself."""

    def forget(self, node: Node) -> None:
        """What `node` has saved is released."""


Gradients = list["Tensor | None"]
Derivative = Callable[..., Sequence["Tensor | None"]]
"""An operator's derivative; tape.Backward says what it takes."""
Edge = tuple["Node | Parameter", int, Shape, str]
"""Where a gradient goes: target, its slot, and the shape and dtype that it must have there."""


class Node:
    """One executed operator that needs a gradient."""

    __slots__ = (
        "__weakref__",
        "backward",
        "context",
        "count",
        "edges",
        "frame",
        "outputs",
        "saved",
        "sequence",
        "start",
        "unit",
        "work",
    )

    def __init__(
        self, sequence: int, unit: int, edges: tuple[Edge | None, ...], backward: Callable[..., Sequence[Tensor | None]]
    ) -> None:
        self.sequence = sequence
        self.unit = unit
        self.edges = edges
        self.backward = backward
        self.saved: tuple[Tensor, ...] = ()
        self.context: Any = None
        self.work: Any = None
        """What its operator computes, of those that compute much."""
        self.frame: Recomputed | None = None
        """The checkpoint that will recompute the saved tensors: `count` of them from number `start`."""
        self.start = 0
        self.count = 0
        self.outputs = 1

    def needs(self, position: int) -> bool:
        """Whether input `position` needs a gradient."""
        return self.edges[position] is not None

    def unpack(self, tape: object) -> Sequence[Tensor]:
        """The saved tensors. The first look into a checkpointed layer recomputes that layer."""
        if self.frame is None or not self.count:
            return self.saved
        return self.frame.unpack(tape, self)

    def release(self) -> None:
        """Drop the saved tensors, in their order. A reentrant checkpoint's `context` stays as long as the graph."""
        saved = [*reversed(self.saved)]
        self.saved, self.frame = (), None
        while saved:
            saved.pop()


def _references(tensor: Tensor) -> int:
    return sys.getrefcount(tensor)


def _storage_references(tensor: Tensor) -> int:
    return sys.getrefcount(tensor.storage)


def _calibrate() -> tuple[int, int]:
    """Reference counts of a tensor that only one list slot holds, seen from inside a function.

    Interpreters differ in how many references a call itself adds, so they are measured.
    """
    holder: list[Tensor | None] = [Tensor((1,), "float32", Storage(_silent(), 4, Label("", "", "float32", (1,))))]
    return _probe(holder, 0)


def _silent() -> Recorder:
    recorder = Recorder()
    recorder.begin("calibration")
    recorder.close()
    return recorder


def _probe(holder: list[Tensor | None], position: int) -> tuple[int, int]:
    tensor = holder[position]
    assert tensor is not None  # noqa: S101  narrowing for the type checker; callers pass filled slots
    return _references(tensor), _storage_references(tensor)


_UNIQUE = _calibrate()


def only_reference(holder: list[Tensor | None], position: int) -> bool:
    """Whether nothing but `holder[position]` refers to that tensor and its storage.

    The condition under which the autograd engine adds a second gradient in place (torch 2.13
    torch/csrc/autograd/input_buffer.cpp, can_accumulate_inplace).
    """
    tensor = holder[position]
    if tensor is None or tensor.view:
        return False
    del tensor  # a name for it would count as well
    return _probe(holder, position) <= _UNIQUE
