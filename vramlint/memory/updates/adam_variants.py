"""torch.optim.Adamax, NAdam and RAdam (torch 2.13 optim/adamax.py, optim/nadam.py, optim/radam.py)."""

from __future__ import annotations

from typing import ClassVar

from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.native import Native
from vramlint.memory.updates.update import Group, Settings


class Adamax(Native):
    """Adamax: exp_avg and exp_inf."""

    moments: ClassVar[int] = 2

    def list_update(self, memory: Memory, members: list[Parameter], *, decays: bool) -> None:
        """_multi_tensor_adamax: absolute gradients, in place where weight decay has made copies."""
        gradients = memory.copies(members)
        del gradients

    def one_by_one(self, memory: Memory, group: Group) -> None:
        """_single_tensor_adamax."""
        for parameter in memory.each(group.parameters):
            gradient = memory.like(parameter) if self.decays(group) else None
            absolute = memory.like(parameter)
            del absolute, gradient


class NAdam(Native):
    """NAdam: exp_avg and exp_avg_sq; decoupled weight decay scales the weights in place."""

    moments: ClassVar[int] = 2

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.weight_decay = self.weight_decay and not settings.flag("decoupled_weight_decay", default=False)

    def list_update(self, memory: Memory, members: list[Parameter], *, decays: bool) -> None:
        """_multi_tensor_nadam."""
        gradients = memory.copies(members) if decays else None
        roots = memory.copies(members)
        del roots, gradients

    def one_by_one(self, memory: Memory, group: Group) -> None:
        """_single_tensor_nadam."""
        gradient = denominator = None
        for parameter in memory.each(group.parameters):
            gradient = None
            gradient = memory.like(parameter) if self.decays(group) else None
            denominator = memory.like(memory.like(parameter))
        del gradient, denominator


class RAdam(NAdam):
    """RAdam. Its first five steps are unrectified, which takes less."""

    def list_update(self, memory: Memory, members: list[Parameter], *, decays: bool) -> None:
        """_multi_tensor_radam: the decayed gradients are let go before the roots are taken."""
        gradients = memory.copies(members) if decays else None
        del gradients
        buffer = memory.copies(members)
        del buffer

    def one_by_one(self, memory: Memory, group: Group) -> None:
        """_single_tensor_radam."""
        gradient = corrected = None
        for parameter in memory.each(group.parameters):
            gradient = None
            gradient = memory.like(parameter) if self.decays(group) else None
            corrected = memory.like(parameter)
            scaled = memory.like(corrected)
            if memory.later:
                with memory.in_later():
                    root = memory.like(parameter)
                    adaptive = memory.like(memory.like(root))  # a reciprocal, multiplied
                    del root
                    product = memory.like(scaled, adaptive)
                    del adaptive
                    rectified = memory.like(product)
                    del product, rectified
            del scaled
        del gradient, corrected
