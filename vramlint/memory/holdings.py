"""Tensors that a process holds, counted and not followed one by one."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from vramlint.memory.recorder import rounded
from vramlint.memory.tensor import LayerId, Parameter


class Tensors(Struct, frozen=True):
    """`count` tensors of `nbytes` each, of one component."""

    component: str
    nbytes: int
    count: int = 1
    stretch: LayerId | None = None
    """The stretch of repeated layers that they belong to: its tensors lie layer by layer in memory."""

    @classmethod
    def of(cls, component: str, parameter: Parameter, nbytes: int) -> Tensors:
        """One tensor of `nbytes` for each layer that `parameter` stands for."""
        return cls(component, nbytes, parameter.multiplicity, parameter.stretch)


def total(tensors: Iterable[Tensors]) -> int:
    """Bytes on the device, each tensor rounded to the allocator's blocks."""
    return sum(rounded(tensor.nbytes) * tensor.count for tensor in tensors)


def unrounded(tensors: Iterable[Tensors], *components: str) -> int:
    """Bytes of some components' elements."""
    return sum(tensor.nbytes * tensor.count for tensor in tensors if tensor.component in components)
