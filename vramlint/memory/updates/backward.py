"""Updates in backward: hooks on gradients."""

from __future__ import annotations

from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.update import Update


class GradientHooks:
    """What the engine calls around the accumulation of every gradient."""

    __slots__ = ("_update", "_waiting", "memory")

    def __init__(self, update: Update, memory: Memory) -> None:
        self.memory = memory
        self._update = update
        self._waiting: Parameter | None = None

    def arriving(self, _parameter: Parameter) -> None:
        """A gradient is complete, but not yet its parameter's."""
        self.finish()

    def arrived(self, parameter: Parameter) -> None:
        """A parameter has its gradient."""
        if self._update.delayed:
            self._waiting = parameter
        else:
            self._update.update(self.memory, parameter)

    def finish(self) -> None:
        """Update the parameter that waits."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._update.update(self.memory, waiting)
