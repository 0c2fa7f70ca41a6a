"""CAME (came_pytorch 0.1.3 CAME.py): Adafactor with a first moment and factored instability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from vramlint.job import DTYPE_BYTES
from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.factored import WIDE, clip, factored_bytes, mean_square, second_moment, square
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.update import Group, Update


class Came(Update):
    """Float32 states whatever the weights are."""

    dense: ClassVar[bool] = False

    def states(self, parameter: Parameter) -> list[int]:
        """exp_avg, row and column sums of a matrix's squares and instability or all of a vector's, and the RMS."""
        sums = factored_bytes(parameter.shape)
        return [4 * parameter.numel, *sums, *(sums if len(parameter.shape) > 1 else []), DTYPE_BYTES[parameter.dtype]]

    def run(self, memory: Memory, groups: Sequence[Group]) -> None:
        """CAME.step."""
        gradient = update = residual = approximation = None
        for parameter in memory.each_of(group.parameters for group in groups):
            gradient = None
            gradient = memory.to(parameter, WIDE)
            self.make_one(memory, parameter)
            mean_square(memory)
            update = square(memory, gradient)
            update = second_moment(memory, update)
            clip(memory)
            residual = memory.like(memory.like(memory.like(update)))
            if len(parameter.shape) > 1:
                approximation = second_moment(memory, residual)
                update = approximation
            else:
                update = memory.like(parameter, dtype=WIDE)
            negated = memory.like(update)
            del negated
        del gradient, update, residual, approximation
