"""SHiRA: some entries of the weight."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory import adapters
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.changed_weights import SparseWeight
from vramlint.memory.ops.linear import Adapter as Wrapper


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """As many entries as LoRA of that rank has, with 32-bit indices of rows and columns."""
    count = adapters.rank_of(adapter, name) * (inputs + outputs)
    build.buffer(2 * 4 * count)
    return SparseWeight(build.trained(f"{name}.shira_weight", (count,)))
