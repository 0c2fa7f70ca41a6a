"""APOLLO (apollo_torch 1.0.3 apollo.py, random_projector.py): gradients scaled as Adam scales their projections."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.job import DTYPE_BYTES
from vramlint.memory.tensor import Parameter, Shape, Tensor
from vramlint.memory.updates.factored import WIDE
from vramlint.memory.updates.galore import project, projection_bytes
from vramlint.memory.updates.low_rank import LowRank, Projection
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.update import Group, Settings


class Apollo(LowRank):
    """APOLLOAdamW with random projections (`proj=random`) or GaLore's (`proj=svd`)."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.random = settings.text("proj", "random") != "svd"
        self.by_channel = settings.text("scale_type", "channel") == "channel"

    def moments(self, parameter: Parameter, shape: Shape) -> list[int]:
        """exp_avg and exp_avg_sq; of a target also the norm that limits the growth of its next update."""
        moment = Tensor(shape, parameter.dtype, None).nbytes
        return [moment, moment, *([DTYPE_BYTES[parameter.dtype]] if self.projects(parameter) else [])]

    def kept(self, parameter: Parameter, projection: Projection) -> list[int]:
        """In the gradient's dtype."""
        if not self.random:
            return projection_bytes(parameter.shape, parameter.dtype, projection)
        return [Tensor(_random_shape(parameter, projection), parameter.dtype, None).nbytes]

    def run(self, memory: Memory, groups: Sequence[Group]) -> None:
        """APOLLOAdamW.step."""
        gradient = denominator = update = scaled = factor = None
        for parameter in memory.each_of(group.parameters for group in groups):
            gradient = None
            target = self.projects(parameter)
            if target:
                gradient = self._project(memory, parameter, self.projection(parameter))
            self.make_one(memory, parameter)
            low = gradient or parameter
            denominator = memory.like(low)
            update = memory.like(low, denominator)
            del low
            if not target:
                continue
            factor = self._factor(memory, parameter)
            scaled = memory.like(parameter)
            if memory.later:
                with memory.in_later():
                    limited = memory.like(scaled)  # takes the place of what it is made of, which is as large
                    del limited
            update = scaled
        del gradient, denominator, update, scaled, factor

    def _project(self, memory: Memory, parameter: Parameter, projection: Projection) -> Tensor:
        if not self.random:
            return project(memory, parameter, projection)
        matrix = memory.to(parameter, WIDE)
        shape = _random_shape(parameter, projection)
        drawn: Tensor | None = memory.empty(shape, WIDE)
        if parameter.dtype == WIDE:
            scaled = memory.renewed(shape, WIDE)
        else:
            scaled = memory.empty(shape, WIDE)
            drawn = None
            drawn = memory.renewed(shape, parameter.dtype)
        del matrix, drawn, scaled
        return memory.empty(projection.shape, parameter.dtype)

    def _factor(self, memory: Memory, parameter: Parameter) -> Tensor:
        """The norms of the update over those of the projected gradient, by channel or over all."""
        shape = (max(parameter.shape),) if self.by_channel else ()
        above = memory.empty(shape, parameter.dtype)
        below = memory.like(memory.empty(shape, parameter.dtype))
        factor = memory.like(above, below)
        del above, below
        return factor


def _random_shape(parameter: Parameter, projection: Projection) -> tuple[int, int]:
    outputs, inputs = parameter.shape
    return (outputs, projection.rank) if projection.side == "left" else (projection.rank, inputs)
