"""OFT: rotations of blocks of the input."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory.adapters import option
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.ops.rotated import Rotated
from vramlint.memory.refusal import NotFollowedError

OFT_BLOCK = 32
"""OFTConfig.oft_block_size (peft 0.21)."""
BLOCKWISE_OFT_FROM = (0, 16)
"""Since then OFT turns the input; before, it turned the weight."""


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """The elements above the diagonals of skew-symmetric blocks."""
    if build.peft < BLOCKWISE_OFT_FROM:
        raise NotFollowedError("OFT before peft 0.16")
    blocks = adapter.r
    size = inputs // blocks if blocks else option(adapter, "oft_block_size", OFT_BLOCK)
    if inputs % size or any(adapter.options.get(key) for key in ("coft", "block_share", "module_dropout")):
        raise NotFollowedError(f"the form of OFT on {name}")
    elements = size * (size - 1) // 2
    for _ in ("rows", "columns"):
        build.buffer(8 * elements)
    return Rotated(build.trained(f"{name}.oft_R.weight", (inputs // size, elements)), size)
