"""torch.optim.SGD (torch 2.13 optim/sgd.py)."""

from __future__ import annotations

from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.native import Native
from vramlint.memory.updates.update import Group, Settings


class SGD(Native):
    """SGD, with and without momentum: nesterov adds in place."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.momentum = settings.number("momentum", 0) != 0
        self.fused = settings.flag("fused", default=False)

    def states(self, parameter: Parameter) -> list[int]:
        """momentum_buffer."""
        return [parameter.nbytes] if self.momentum else []

    def step(self, memory: Memory, group: Group) -> None:
        """The buffers are copies of the first gradients, made where those are used, not before."""
        if self.fused:
            self.make(memory, group.parameters)
        elif self.foreach:
            self.together(memory, group)
        else:
            self.one_by_one(memory, group)

    def list_update(self, memory: Memory, members: list[Parameter], *, decays: bool) -> None:
        """_multi_tensor_sgd."""
        gradients = memory.copies(members) if decays else None
        self.make(memory, members)
        del gradients

    def one_by_one(self, memory: Memory, group: Group) -> None:
        """_single_tensor_sgd."""
        for parameter in memory.each(group.parameters):
            gradient = memory.like(parameter) if self.decays(group) else None
            self.make_one(memory, parameter)
            del gradient
