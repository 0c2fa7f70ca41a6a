"""VeRA: shared factors, scaled by vectors."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.ops.vectors import SharedFactors


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """Two vectors."""
    rank = adapter.r
    build.share_factors(rank, inputs, outputs)
    outer = build.trained(f"{name}.vera_lambda_b", (outputs,))
    return SharedFactors(build.trained(f"{name}.vera_lambda_d", (rank,)), outer, adapter.dropout)
