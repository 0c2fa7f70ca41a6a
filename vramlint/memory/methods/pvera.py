"""PVeRA: VeRA whose inner values are drawn from a distribution that is learned."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.ops.vectors import DrawnInner


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """Two vectors; the inner shared factor is of twice the rank, for means and variances."""
    rank = adapter.r
    build.share_factors(rank, 2 * inputs, outputs)
    outer = build.trained(f"{name}.pvera_lambda_b", (outputs,))
    return DrawnInner(build.trained(f"{name}.pvera_lambda_d", (2 * rank,)), outer, adapter.dropout)
