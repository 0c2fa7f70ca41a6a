"""AdaMSS: the outputs fall into groups, each with a low-rank product of its own."""

from __future__ import annotations

from vramlint.job import DTYPE_BYTES, Adapter
from vramlint.memory.adapters import option
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.ops.subspaces import Subspaces
from vramlint.memory.refusal import NotFollowedError

SUBSPACES, INNER = 5, 1
"""AdamssConfig.num_subspaces and subspace_rank (peft 0.20)."""


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """The projection is a buffer. How the weight's rows fall into groups is not known; they are taken as equal.

    Raises:
        NotFollowedError: ranks follow the weight, or subspaces are chosen on the way.
    """
    count, inner = option(adapter, "num_subspaces", SUBSPACES), option(adapter, "subspace_rank", INNER)
    if adapter.options.get("use_dynamic_rank") or adapter.options.get("use_asa"):
        raise NotFollowedError(f"the form of AdaMSS on {name}")
    build.buffer(DTYPE_BYTES[build.dtype] * adapter.r * inputs)
    build.buffer(DTYPE_BYTES["int64"] * outputs)
    sizes = [outputs // count + (position < outputs % count) for position in range(count)]
    factors = tuple(
        [
            (
                build.trained(f"{name}.adamss_A.{position}", (inner, adapter.r)),
                build.trained(f"{name}.adamss_B.{position}", (size, inner)),
            )
            for position, size in enumerate(sizes)
        ]
    )
    return Subspaces(adapter.r, factors)
