"""MiSS, once called Bone: one matrix for the shards of a weight."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory import adapters
from vramlint.memory.adapters import option
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.ops.shards import Shards
from vramlint.memory.refusal import NotFollowedError

MISS_COLUMNS = 1
"""MissConfig.mini_r (peft 0.21)."""


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """A block of shards."""
    rank = adapters.rank_of(adapter, name)
    form = adapter.options.get("init_weights", True)
    columns = option(adapter, "mini_r", MISS_COLUMNS) if form == "mini" else outputs
    if inputs % rank or form not in (True, False, "mini"):
        raise NotFollowedError(f"the form of MiSS on {name}")
    return Shards(build.trained(f"{name}.miss_block", (rank, columns)), adapter.dropout, repeats=columns != outputs)
