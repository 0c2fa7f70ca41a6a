"""Prodigy (prodigyopt 1.1.2 prodigy.py): Adam that estimates its step size from the way since the start."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.update import Group, Settings, Update


class Prodigy(Update):
    """Two loops over all parameters: the first for the estimate, the second for the step."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.slices = max(1, int(settings.number("slice_p", 1)))

    def states(self, parameter: Parameter) -> list[int]:
        """Of every `slice_p`-th weight s and p0; exp_avg and exp_avg_sq."""
        sliced = -(-parameter.numel // self.slices) * parameter.nbytes // parameter.numel
        return [sliced, sliced, parameter.nbytes, parameter.nbytes]

    def run(self, memory: Memory, groups: Sequence[Group]) -> None:
        """Prodigy.step."""
        for parameter in memory.each_of(group.parameters for group in groups):
            self.make_one(memory, parameter)
            shape = (-(-parameter.numel // self.slices),)
            for _ in ("way since the start", "absolute s"):
                vector = memory.empty(shape, parameter.dtype)
                product = memory.scalar(parameter.dtype)
                del vector, product
        denominator = None
        for parameter in memory.each_of(group.parameters for group in groups):
            denominator = memory.like(parameter)
        del denominator
