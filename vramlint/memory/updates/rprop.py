"""torch.optim.Rprop (torch 2.13 optim/rprop.py)."""

from __future__ import annotations

from typing import ClassVar

from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.native import Native
from vramlint.memory.updates.update import Group

MASKS = 3
"""Positive, negative and zero signs, one after the other."""


class Rprop(Native):
    """Rprop: the gradient before and the step size."""

    moments: ClassVar[int] = 2

    def list_update(self, memory: Memory, members: list[Parameter], *, decays: bool) -> None:
        """_multi_tensor_rprop."""
        signs = memory.copies(members)
        for parameter in memory.each(members):
            self._mask(memory, parameter)
        for parameter in memory.each(members):
            mask = memory.like(parameter, dtype="bool")
            zero = memory.scalar(parameter.dtype)
            chosen = memory.like(parameter)
            del zero, mask, chosen
        del signs
        # the loop over the signs has left its variable on the last of them
        last = memory.like(members[-1])
        signs = memory.copies(members)
        del last, signs

    def one_by_one(self, memory: Memory, group: Group) -> None:
        """_single_tensor_rprop."""
        sign = gradient = None
        for parameter in memory.each(group.parameters):
            gradient = None
            sign = memory.like(memory.like(parameter))
            self._mask(memory, parameter)
            gradient = memory.like(parameter)
            mask = memory.like(parameter, dtype="bool")
            del mask
            signs = memory.like(gradient)
            del signs
        del sign, gradient

    def _mask(self, memory: Memory, parameter: Parameter) -> None:
        for _ in range(MASKS):
            mask = memory.like(parameter, dtype="bool")
            del mask
