"""DeLoRA: a low-rank product of bounded norm."""

from __future__ import annotations

from vramlint.job import DTYPE_BYTES, Adapter
from vramlint.memory import adapters
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.blocked import Normalised
from vramlint.memory.ops.linear import Adapter as Wrapper


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """Two factors and a number, and the norms of the weight's columns."""
    rank = adapters.rank_of(adapter, name)
    first = build.trained(f"{name}.delora_A", (rank, inputs))
    second = build.trained(f"{name}.delora_B", (outputs, rank))
    build.buffer(DTYPE_BYTES[first.dtype] * inputs)
    return Normalised(first, second, build.trained(f"{name}.delora_lambda", (1,)), adapter.dropout)
