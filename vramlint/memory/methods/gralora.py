"""GraLoRA: a low-rank product for every block of the weight."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory import adapters
from vramlint.memory.adapters import option
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.blocked import Blocks
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.refusal import NotFollowedError

BLOCKS = 2
"""GraloraConfig.gralora_k (peft 0.20)."""


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """Two factors, cut into as many blocks as the sides are.

    Raises:
        NotFollowedError: a plain low-rank product stands beside them.
    """
    rank, blocks = adapters.rank_of(adapter, name), option(adapter, "gralora_k", BLOCKS)
    if option(adapter, "hybrid_r", 0) or inputs % blocks or outputs % blocks:
        raise NotFollowedError(f"the form of GraLoRA on {name}")
    first = build.trained(f"{name}.gralora_A", (blocks, inputs // blocks, rank))
    second = build.trained(f"{name}.gralora_B", (blocks, rank, outputs // blocks))
    return Blocks(first, second, adapter.dropout)
