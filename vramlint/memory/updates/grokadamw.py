"""GrokAdamW (grokadamw 0.1.2): states in host memory, fetched for one parameter at a time."""

from __future__ import annotations

from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.clipping import clip_one
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.update import Group, Settings, Update

STATES = 3
"""exp_avg, exp_avg_sq and grok_ema."""


class GrokAdamW(Update):
    """GrokAdamW clips each parameter's gradient by itself."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.clips = settings.number("gradient_clipping", 1.0) > 0

    def hosted(self, parameter: Parameter) -> int:
        """The states."""
        return STATES * parameter.nbytes

    def step(self, memory: Memory, group: Group) -> None:
        """_update_group."""
        averages = gradient = slow = None
        for parameter in memory.each(group.parameters):
            averages = (memory.like(parameter), memory.like(parameter))
            slow = memory.like(parameter)
            if self.clips:
                clip_one(memory, parameter)
            gradient = memory.like(memory.like(parameter))
            root = memory.like(parameter)
            del root
        del averages, slow, gradient
