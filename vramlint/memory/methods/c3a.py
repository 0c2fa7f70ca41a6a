"""C3A: circular convolutions of blocks."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory.adapters import option
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.circular import Circular
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.refusal import NotFollowedError

BLOCK = 256
"""C3AConfig.block_size (peft 0.20)."""


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """A kernel for every pair of blocks.

    Raises:
        NotFollowedError: the size of blocks is another for some layers, or none of this one.
    """
    size = option(adapter, "block_size", BLOCK)
    if adapter.options.get("block_size_pattern") or inputs % size or outputs % size:
        raise NotFollowedError(f"the blocks of C3A on {name}")
    return Circular(build.trained(f"{name}.c3a_kernel", (outputs // size, inputs // size, size)))
