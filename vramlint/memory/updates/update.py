"""What every optimizer's update says of itself: its states, and the course of its step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from msgspec import Struct, field

from vramlint.job import Argument, Libraries, Optimizer
from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.memory import Memory

TRUE = frozenset({"true", "1", "yes"})
"""What the Trainer takes for true in `optim_args` (transformers 5.23 trainer_optimizer.py)."""


class Settings(Struct, frozen=True):
    """What an optimizer was made with."""

    optimizer: Optimizer
    libraries: Libraries = field(default_factory=Libraries)
    presets: Mapping[str, Argument] = field(default_factory=dict)
    """Arguments that belong to the optimizer's name."""

    @property
    def layerwise(self) -> bool:
        """Whether each parameter has an optimizer of its own, which steps in a hook on its gradient."""
        return self.flag("layerwise", default=False)

    @property
    def _arguments(self) -> Mapping[str, Argument]:
        return {**self.presets, **self.optimizer.arguments}

    def number(self, name: str, default: float) -> float:
        """An argument that is a number; the library's default where it is not given or cannot be read."""
        value = self._arguments.get(name)
        try:
            return default if value is None else float(value)
        except ValueError:
            return default

    def flag(self, name: str, *, default: bool) -> bool:
        """An argument that is true or false."""
        value = self._arguments.get(name)
        return default if value is None else str(value).lower() in TRUE

    def text(self, name: str, default: str) -> str:
        """An argument that is a word."""
        value = self._arguments.get(name)
        return default if value is None else str(value)


class Group(Struct, frozen=True):
    """A parameter group."""

    parameters: Sequence[Parameter]
    decays: bool = True
    """Whether weight decay applies, if there is any: the Trainer leaves out norms and biases."""


class Update:
    """One optimizer."""

    lazy: bool = True
    """Whether states come into being in the first step; else when the optimizer is made."""
    in_backward: bool = False
    """Whether parameters are updated, and their gradients freed, in backward."""
    delayed: ClassVar[bool] = False
    """Whether such an update waits for the next parameter's gradient."""
    dense: ClassVar[bool] = True
    """Whether the number of elements alone decides the size of the states, not the shapes of the parameters."""
    swaps_gradients: ClassVar[bool] = False
    """Whether the step leaves parameters with other gradients than it found."""
    note: str = ""
    """What the reader of an estimate must know."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.in_backward = settings.layerwise or self.in_backward
        self.weight_decay = settings.optimizer.weight_decay != 0

    # ------------------------------------------------------------------ states

    def states(self, parameter: Parameter) -> list[int]:
        """Unrounded bytes of every device tensor that the optimizer keeps for one parameter."""
        return []

    def shared(self, parameters: Sequence[Parameter]) -> list[int]:
        """Bytes of device tensors that are kept once for all parameters."""
        return []

    def managed(self, parameter: Parameter) -> int:
        """Bytes of states in managed memory: the driver may move them to the host under pressure."""
        return 0

    def hosted(self, parameter: Parameter) -> int:
        """Bytes of states in host memory."""
        return 0

    # ------------------------------------------------------------------ course

    def groups(self, parameters: Sequence[Parameter], undecayed: Collection[int]) -> Sequence[Group]:
        """The parameter groups: as the Trainer makes them, with weight decay and, by their ids, without it."""
        return [
            Group([parameter for parameter in parameters if (id(parameter) not in undecayed) is decays], decays)
            for decays in (True, False)
        ]

    def run(self, memory: Memory, groups: Sequence[Group]) -> None:
        """`optimizer.step()`."""
        for group in groups:
            self.step(memory, group)

    def step(self, memory: Memory, group: Group) -> None:
        """The step of one group."""

    def update(self, memory: Memory, parameter: Parameter) -> None:
        """The step of one parameter in backward."""
        self.run(memory, [Group([parameter])])
        parameter.grad = None

    def make(self, memory: Memory, parameters: Sequence[Parameter]) -> None:
        """Make the states of `parameters` in the first step."""
        if self.lazy and memory.first:
            for parameter in memory.each(parameters):
                self.make_one(memory, parameter)

    def make_one(self, memory: Memory, parameter: Parameter) -> None:
        """Make the states of one parameter, if the step may be the first."""
        for size in self.states(parameter) if memory.first else ():
            memory.state(size)

    def decays(self, group: Group) -> bool:
        """Whether the group's weights decay."""
        return self.weight_decay and group.decays
