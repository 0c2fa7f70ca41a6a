"""Optimizers whose step is known by the catalog's numbers alone."""

from __future__ import annotations

from vramlint.catalog.optimizers import OptimizerRow, find_optimizer
from vramlint.job import DTYPE_BYTES
from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.memory import Memory, by_dtype
from vramlint.memory.updates.update import Group, Settings, Update

WIDTHS = {"fp32": 4.0, "fp8": 1.0, "u8": 1.0, "u4": 0.5}
"""Bytes per element of a state's dtype word; `param` is the parameter's own dtype."""


class Catalogued(Update):
    """States and temporaries as the optimizer's row in the catalog has them."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        row = find_optimizer(settings.optimizer.name)
        if row is None:
            raise ValueError(f"the catalog has no optimizer {settings.optimizer.name}")
        self.row: OptimizerRow = row
        self.lazy = row.lazy
        if row.verified != "source":
            self.note = f"states and temporaries of {row.name} are those of the catalog, not read from its source"

    def states(self, parameter: Parameter) -> list[int]:
        """One tensor for each state of the row."""
        if self.row.place == "host":
            return []
        words = [state.dtype for state in self.row.states]
        return [int(parameter.numel * WIDTHS.get(word, DTYPE_BYTES[parameter.dtype])) for word in words]

    def hosted(self, parameter: Parameter) -> int:
        """Bytes of the states that lie in host memory."""
        return int(parameter.numel * self.row.host_bytes_fp32) if self.row.place == "host" else 0

    def step(self, memory: Memory, group: Group) -> None:
        """States of the group, or of each parameter before its update; then as many copies as the row says."""
        by_group = self.row.states_by == "group"
        if by_group:
            self.make(memory, group.parameters)
        if self.row.step_temp_scope == "group":
            for members in by_dtype(group.parameters):
                copies = [memory.copies(members) for _ in range(self._copies(members[0]))]
                copies.clear()
            return
        for parameter in memory.each(group.parameters):
            if memory.first and not by_group:
                self.make_one(memory, parameter)
            if self.row.step_temp_scope == "largest":
                held = [memory.like(parameter) for _ in range(self._copies(parameter))]
                held.clear()

    def _copies(self, parameter: Parameter) -> int:
        width = DTYPE_BYTES[parameter.dtype]
        return round((self.row.step_temp_fp32 if width == 4 else self.row.step_temp_low) / width)
