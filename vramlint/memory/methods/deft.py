"""DEFT: a subspace of the output."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory import adapters
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.ops.projected import Projected


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """The subspace, and unless it is PaRa what is put into it."""
    rank = adapters.rank_of(adapter, name)
    subspace = build.trained(f"{name}.deft_P", (outputs, rank))
    removes = adapter.options.get("para") is True
    injected = None if removes else build.trained(f"{name}.deft_R", (rank, inputs))
    return Projected(subspace, injected, adapter.options.get("decomposition_method", "qr") == "qr", adapter.dropout)
