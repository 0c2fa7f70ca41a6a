"""What GaLore and APOLLO share: which matrices the Trainer has them project, and in which groups."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import ClassVar

from msgspec import Struct

from vramlint.memory.tensor import Parameter, Shape
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.update import Group, Settings, Update

RANK = 128
"""What the Trainer passes without `rank` in optim_args (transformers 5.23 trainer_optimizer.py)."""


class Projection(Struct, frozen=True):
    """How a matrix is projected."""

    side: str
    """left (from rows), right (from columns), full (both)."""
    rank: int
    shape: Shape
    """Of the projected gradient."""


class LowRank(Update):
    """Matrices that are targets are projected; everything else is updated densely."""

    dense: ClassVar[bool] = False
    caveat: ClassVar[str] = ""
    """The note of every such optimizer."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.note = self.caveat
        self.rank = int(settings.number("rank", RANK))
        self.kind = settings.text("proj_type", "std")
        self.targets = settings.optimizer.target_modules
        self.all_linear = isinstance(self.targets, str) and self.targets.replace("_", "-") == "all-linear"

    def groups(self, parameters: Sequence[Parameter], undecayed: Collection[int]) -> Sequence[Group]:
        """Other parameters, then targets (_setup_low_rank_optimizer)."""
        return [Group([p for p in parameters if self.projects(p) is projected]) for projected in (False, True)]

    def projects(self, parameter: Parameter) -> bool:
        """Whether a parameter is a target: the weight of an nn.Linear whose module's name is asked for."""
        if not parameter.linear or self.all_linear:
            return parameter.linear
        return _matches(self.targets, parameter.name.rpartition(".")[0])

    def states(self, parameter: Parameter) -> list[int]:
        """What a target's projection keeps, then its moments; or the moments alone."""
        if not self.projects(parameter):
            return self.moments(parameter, parameter.shape)
        projection = self.projection(parameter)
        return [*self.kept(parameter, projection), *self.moments(parameter, projection.shape)]

    @abstractmethod
    def moments(self, parameter: Parameter, shape: Shape) -> list[int]:
        """Bytes of the states of a parameter whose gradient, or projected gradient, has a shape."""

    @abstractmethod
    def kept(self, parameter: Parameter, projection: Projection) -> list[int]:
        """Bytes of a target's projection."""

    def make_one(self, memory: Memory, parameter: Parameter) -> None:
        """The projection is made where the gradient is projected; the moments here."""
        shape = self.projection(parameter).shape if self.projects(parameter) else parameter.shape
        for size in self.moments(parameter, shape) if memory.first else ():
            memory.state(size)

    def projection(self, parameter: Parameter) -> Projection:
        """How a target is projected (galore_torch 1.0 galore_projector.py, apollo_torch 1.0.3 random_projector.py)."""
        outputs, inputs = parameter.shape
        rank = min(self.rank, outputs, inputs)
        tall = outputs >= inputs
        side = {"std": "right" if tall else "left", "reverse_std": "left" if tall else "right"}.get(
            self.kind, self.kind
        )
        shape = {"right": (outputs, rank), "left": (rank, inputs), "full": (rank, rank)}[side]
        return Projection(side, rank, shape)


def _matches(targets: tuple[str, ...] | str | None, name: str) -> bool:
    """check_target_module_exists (transformers 5.23 trainer_utils.py): equal, a part, or a regular expression."""
    if isinstance(targets, str):
        return _full_match(targets, name)
    return any(target in name or _full_match(target, name) for target in targets or ())


def _full_match(pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error:
        return False
