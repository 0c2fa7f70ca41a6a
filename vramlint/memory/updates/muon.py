"""torch.optim.Muon (torch 2.13 optim/_muon.py): momentum orthogonalized by Newton-Schulz iterations in bfloat16."""

from __future__ import annotations

from typing import ClassVar

from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.update import Group, Settings, Update

NARROW = "bfloat16"
ITERATIONS = 5
"""`ns_steps` by default."""


class Muon(Update):
    """Muon takes matrices only: other parameters are somebody else's."""

    dense: ClassVar[bool] = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.nesterov = settings.flag("nesterov", default=True)
        self.iterations = int(settings.number("ns_steps", ITERATIONS))

    def states(self, parameter: Parameter) -> list[int]:
        """momentum_buffer."""
        return [parameter.nbytes] if len(parameter.shape) == 2 else []

    def step(self, memory: Memory, group: Group) -> None:
        """_single_tensor_muon."""
        matrices = [parameter for parameter in group.parameters if len(parameter.shape) == 2]
        self.make(memory, matrices)
        update = None
        for parameter in memory.each(matrices):
            if self.nesterov:
                update = memory.like(parameter)
                update = self._orthogonalized(memory, update)
            else:
                update = self._orthogonalized(memory, parameter)
        del update

    def _orthogonalized(self, memory: Memory, gradient: Tensor) -> Tensor:
        """_zeropower_via_newtonschulz."""
        result = memory.to(gradient, NARROW)
        norm = memory.scalar(NARROW)
        clamped = memory.scalar(NARROW)
        del norm, clamped
        side = min(gradient.shape)
        gram = change = None
        for _ in range(self.iterations):
            gram = memory.empty((side, side), NARROW)
            change = memory.like(gram)
            result = memory.like(result, change)
        del gram, change
        return result
