"""BOFT: rotations of blocks of the input, as one dense matrix."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory.adapters import option
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.butterfly import Butterfly
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.refusal import NotFollowedError

SIZE = 4
"""BOFTConfig.boft_block_size (peft 0.20)."""


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """Square blocks and a scale for every output.

    Raises:
        NotFollowedError: factors are dropped, or of more than one size, which takes an extension.
    """
    count = option(adapter, "boft_block_num", 0)
    size = inputs // count if count else option(adapter, "boft_block_size", SIZE)
    if inputs % size or option(adapter, "boft_n_butterfly_factor", 1) != 1 or adapter.options.get("boft_dropout"):
        raise NotFollowedError(f"the form of BOFT on {name}")
    blocks = build.trained(f"{name}.boft_R", (inputs // size, size, size))
    return Butterfly(blocks, build.trained(f"{name}.boft_s", (outputs,)))
