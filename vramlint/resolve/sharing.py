"""A batch over all GPUs, and what of it one of them gets."""

from __future__ import annotations

from vramlint.facts import Fact
from vramlint.resolve.board import Board, derived, possible

_SHARING = ("tensor_parallel", "pipeline_parallel", "context_parallel")
"""Facts of GPUs that work on the same samples."""


def apart(board: Board, gpus: int) -> int:
    """How many of `gpus`, or groups of them, work on samples of their own: at least one."""
    for name in _SHARING:
        gpus //= max(1, board.integer(name) or 1)
    return max(1, gpus)


def by_global_batch(board: Board, total: int, micro: int) -> Fact:
    """Micro batches that make up a batch over all GPUs; how many are needed for memory is only whether it is one."""
    gpus = board.integer("world_size") or board.setting.world_size
    if not gpus:
        reason = f"a batch of {total} is shared by nobody knows how many GPUs; one or several micro batches are assumed"
        return possible("gradient_accumulation_steps", (1, 2), reason)
    gpus = apart(board, gpus)
    reason = f"a batch of {total} over {gpus} data-parallel GPUs in micro batches of {micro}"
    return derived("gradient_accumulation_steps", max(1, total // (micro * gpus)), reason)
