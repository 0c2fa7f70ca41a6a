"""Schedule-free optimizers (schedulefree 1.4.1), which keep a second set of weights, z."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.update import Group, Update


class SGDScheduleFree(Update):
    """sgd_schedulefree.py: all in place."""

    def states(self, parameter: Parameter) -> list[int]:
        """The weights z."""
        return [parameter.nbytes]

    def step(self, memory: Memory, group: Group) -> None:
        """The foreach form."""
        self.make(memory, group.parameters)


class AdamWScheduleFree(Update):
    """adamw_schedulefree.py."""

    def states(self, parameter: Parameter) -> list[int]:
        """The weights z, and exp_avg_sq."""
        return [parameter.nbytes] * 2

    def run(self, memory: Memory, groups: Sequence[Group]) -> None:
        """A loop over the groups whose variable for the denominators outlives each turn."""
        denominators = None
        for group in groups:
            self.make(memory, group.parameters)
            if group.parameters:
                denominators = memory.copies(group.parameters)
        del denominators


class RAdamScheduleFree(AdamWScheduleFree):
    """radam_schedulefree.py: the first steps are plain SGD without denominators."""

    def run(self, memory: Memory, groups: Sequence[Group]) -> None:
        """As AdamWScheduleFree, once the variance is rectified."""
        denominators = None
        for group in groups:
            self.make(memory, group.parameters)
            if group.parameters and memory.later:
                with memory.in_later():
                    denominators = memory.copies(group.parameters)
        del denominators
