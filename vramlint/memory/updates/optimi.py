"""Optimizers of torch-optimi (0.3.3), whose Triton kernels hold nothing beside the states.

Without Triton, on other devices than CUDA or before torch 2.6, they take the foreach form.
"""

from __future__ import annotations

from typing import ClassVar

from vramlint.job import DTYPE_BYTES
from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.memory import Memory, by_dtype
from vramlint.memory.updates.update import Group, Settings, Update

TRITON_FROM = (2, 6)
"""Since this version of torch Triton is tried first (optimi/utils.py)."""


class Optimi(Update):
    """States of a parameter's size, and Kahan's compensation beside 16-bit weights."""

    moments: ClassVar[int] = 1
    stable: ClassVar[bool] = False
    """StableAdamW: eps² is a tensor, and under Triton the mean square and a missing compensation, too."""
    compensates: ClassVar[bool] = True
    """The default of `kahan_sum`."""
    lists: ClassVar[int] = 0
    """Lists of temporaries at the highest point of the foreach form."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        default = settings.libraries.torch >= TRITON_FROM and not settings.flag("foreach", default=False)
        self.triton = settings.flag("triton", default=default)
        self.kahan = settings.flag("kahan_sum", default=self.compensates)

    def states(self, parameter: Parameter) -> list[int]:
        """In the order of _init_state."""
        width = DTYPE_BYTES[parameter.dtype]
        states = [parameter.nbytes] * self.moments
        compensation = [parameter.nbytes] if self.kahan and width < 4 else []
        if not self.stable:
            return states + compensation
        if not self.triton:
            return [*states, width, *compensation]
        return [*states, width, *(compensation or [1]), 4]

    def step(self, memory: Memory, group: Group) -> None:
        """The kernels hold nothing; foreach lists live one after the other."""
        self.make(memory, group.parameters)
        if self.triton:
            return
        for members in by_dtype(group.parameters):
            for _ in range(self.lists):
                copies = memory.copies(members)
                del copies


class StableAdamW(Optimi):
    """exp_avg and exp_avg_sq."""

    moments: ClassVar[int] = 2
    stable: ClassVar[bool] = True
    lists: ClassVar[int] = 1


class AdamW(Optimi):
    """exp_avg and exp_avg_sq."""

    moments: ClassVar[int] = 2
    lists: ClassVar[int] = 1


class Lion(Optimi):
    """exp_avg."""

    lists: ClassVar[int] = 1


class Adan(Optimi):
    """exp_avg, exp_avg_diff, exp_avg_sq and the gradient before."""

    moments: ClassVar[int] = 4
    compensates: ClassVar[bool] = False
    lists: ClassVar[int] = 1
