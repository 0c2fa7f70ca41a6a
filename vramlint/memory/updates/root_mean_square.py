"""torch.optim.RMSprop and Adagrad (torch 2.13 optim/rmsprop.py, optim/adagrad.py): gradients over the root of sums."""

from __future__ import annotations

from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.native import Native
from vramlint.memory.updates.update import Group, Settings


class RMSprop(Native):
    """RMSprop: square_avg, with momentum its buffer, if centered grad_avg."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        momentum = settings.number("momentum", 0) != 0
        self.count = 1 + momentum + settings.flag("centered", default=False)

    def states(self, parameter: Parameter) -> list[int]:
        """`count` tensors like the parameter."""
        return [parameter.nbytes] * self.count

    def list_update(self, memory: Memory, members: list[Parameter], *, decays: bool) -> None:
        """_multi_tensor_rmsprop."""
        gradients = memory.copies(members) if decays else None
        roots = memory.copies(members)
        del roots, gradients

    def one_by_one(self, memory: Memory, group: Group) -> None:
        """_single_tensor_rmsprop."""
        gradient = root = None
        for parameter in memory.each(group.parameters):
            gradient = None
            gradient = memory.like(parameter) if self.decays(group) else None
            root = memory.like(parameter)
        del gradient, root


class Adagrad(RMSprop):
    """Adagrad: the sum, made with the optimizer."""

    lazy = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.count = 1
        self.fused = settings.flag("fused", default=False)

    def step(self, memory: Memory, group: Group) -> None:
        """The fused form allocates nothing."""
        if not self.fused:
            super().step(memory, group)

    def list_update(self, memory: Memory, members: list[Parameter], *, decays: bool) -> None:
        """_multi_tensor_adagrad: the gradients are scaled in place if weight decay has made copies of them."""
        gradients = memory.copies(members) if decays else None
        roots = memory.copies(members)
        numerators = None if decays else memory.copies(members)
        del roots, numerators, gradients
