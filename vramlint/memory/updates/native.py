"""The optimizers of torch.optim: what their foreach, for-loop and fused forms have in common.

Without `foreach` and `fused` torch takes the foreach form on CUDA since 2.0, the loop before (torch 2.13
optim/optimizer.py, _default_to_fused_or_foreach). Nobody asks for capturable steps, so counters are on the host.
"""

from __future__ import annotations

from typing import ClassVar

from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.memory import Memory, by_dtype
from vramlint.memory.updates.update import Group, Settings, Update

FOREACH_FROM = (2, 0)
"""Since this version of torch foreach is the default on CUDA."""


class Native(Update):
    """An optimizer of torch.optim with several forms of its step."""

    moments: ClassVar[int] = 0
    """States of a parameter's size and dtype."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.foreach = settings.flag("foreach", default=settings.libraries.torch >= FOREACH_FROM)

    def states(self, parameter: Parameter) -> list[int]:
        """`moments` tensors like the parameter."""
        return [parameter.nbytes] * self.moments

    def step(self, memory: Memory, group: Group) -> None:
        """Make the states of the whole group, then update."""
        self.make(memory, group.parameters)
        if self.foreach:
            self.together(memory, group)
        else:
            self.one_by_one(memory, group)

    def together(self, memory: Memory, group: Group) -> None:
        """The foreach form. The default: one list of temporaries for each dtype."""
        for members in by_dtype(group.parameters):
            self.list_update(memory, members, decays=self.decays(group))

    def list_update(self, memory: Memory, members: list[Parameter], *, decays: bool) -> None:
        """The foreach form for the parameters of one dtype."""

    def one_by_one(self, memory: Memory, group: Group) -> None:
        """The loop over parameters."""
