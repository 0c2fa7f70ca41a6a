"""RandLoRA: random bases of full rank."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory import adapters
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.ops.shared_bases import RandomBases


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """A factor for every row of each base, and for every column."""
    rank, (small, large) = adapters.rank_of(adapter, name), sorted((inputs, outputs))
    bases = -(-small // rank)
    most = build.share_bases(rank, bases, small, large)
    rows = build.trained(f"{name}.randlora_lambda", (rank, bases))
    columns = build.trained(f"{name}.randlora_gamma", (bases, small))
    return RandomBases(rows, columns, most > bases, adapter.dropout)
