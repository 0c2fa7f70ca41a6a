"""torch.optim.Adam and AdamW (torch 2.13 optim/adam.py)."""

from __future__ import annotations

from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.memory import Memory, by_dtype
from vramlint.memory.updates.native import Native
from vramlint.memory.updates.update import Group, Settings

COUNTER = 4
"""Bytes of a fused step's counter, a device tensor per parameter."""

IN_PLACE_FROM = (2, 1)
"""Since this version of torch eps is added to the roots in place, before it made another list (pull request 104898)."""


class AdamW(Native):
    """AdamW, and Adam: its weight decay copies the gradients, but lets go of the copies before the roots are taken."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.fused = settings.flag("fused", default=False)
        self.maxima = settings.flag("amsgrad", default=False)

    def states(self, parameter: Parameter) -> list[int]:
        """exp_avg, exp_avg_sq and, with amsgrad, max_exp_avg_sq; before them the counter of the fused form."""
        counter = [COUNTER] if self.fused else []
        return counter + [parameter.nbytes] * (3 if self.maxima else 2)

    def step(self, memory: Memory, group: Group) -> None:
        """The fused form allocates nothing but states."""
        if self.fused:
            self.make(memory, group.parameters)
        else:
            super().step(memory, group)

    def together(self, memory: Memory, group: Group) -> None:
        """_multi_tensor_adam."""
        roots = denominators = None
        for members in by_dtype(group.parameters):
            roots = memory.copies(members)
            if self.settings.libraries.torch < IN_PLACE_FROM:
                denominators = memory.copies(members)
        del roots, denominators

    def one_by_one(self, memory: Memory, group: Group) -> None:
        """_single_tensor_adam."""
        denominator = None
        for parameter in memory.each(group.parameters):
            denominator = memory.like(memory.like(parameter))
        del denominator
