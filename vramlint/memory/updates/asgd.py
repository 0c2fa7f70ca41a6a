"""torch.optim.ASGD (torch 2.13 optim/asgd.py)."""

from __future__ import annotations

from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.native import Native
from vramlint.memory.updates.update import Group

SCALAR = 4


class ASGD(Native):
    """ASGD: the step, eta, mu and the average ax. Averaging begins after `t0` steps, a million by default."""

    def states(self, parameter: Parameter) -> list[int]:
        """In the order of _init_group."""
        return [SCALAR, SCALAR, SCALAR, parameter.nbytes]

    def list_update(self, memory: Memory, members: list[Parameter], *, decays: bool) -> None:
        """_multi_tensor_asgd, without the new etas and mus that come after the large lists are gone."""
        intermediate = memory.copies(members)
        del intermediate
        intermediate = memory.copies(members)
        del intermediate

    def one_by_one(self, memory: Memory, group: Group) -> None:
        """_single_tensor_asgd: before the averaging begins `ax` is a plain copy of the weights."""
        for parameter in memory.each(group.parameters):
            gradient = memory.like(parameter) if self.decays(group) else None
            del gradient
