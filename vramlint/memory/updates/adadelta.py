"""torch.optim.Adadelta (torch 2.13 optim/adadelta.py)."""

from __future__ import annotations

from typing import ClassVar

from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.native import Native
from vramlint.memory.updates.update import Group


class Adadelta(Native):
    """Adadelta: square_avg and acc_delta."""

    moments: ClassVar[int] = 2

    def list_update(self, memory: Memory, members: list[Parameter], *, decays: bool) -> None:
        """_multi_tensor_adadelta."""
        gradients = memory.copies(members) if decays else None
        deviations = memory.copies(members)
        deltas = memory.copies(members)
        del deviations, deltas, gradients

    def one_by_one(self, memory: Memory, group: Group) -> None:
        """_single_tensor_adadelta."""
        gradient = deviation = delta = None
        for parameter in memory.each(group.parameters):
            gradient = None
            gradient = memory.like(parameter) if self.decays(group) else None
            deviation = memory.like(parameter)
            delta = memory.like(parameter)
        del gradient, deviation, delta
