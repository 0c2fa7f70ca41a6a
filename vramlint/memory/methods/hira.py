"""HiRA: the weight times a low-rank product."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory import adapters
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.changed_weights import HadamardWeight
from vramlint.memory.ops.linear import Adapter as Wrapper


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """Two factors."""
    rank = adapters.rank_of(adapter, name)
    first = build.trained(f"{name}.hira_A", (rank, inputs))
    return HadamardWeight(first, build.trained(f"{name}.hira_B", (outputs, rank)), adapter.dropout)
