"""Runs of one process that sees several GPUs: `python train.py`, without a launcher that starts one for each."""

from __future__ import annotations

from vramlint.facts import Fact
from vramlint.resolve.board import Board, derived


def is_alone(board: Board) -> bool:
    """Whether Python itself starts the program, on a machine that shows it several GPUs."""
    return board.value("launcher") == "python" and (board.integer("world_size") or 1) > 1


def one_rank(board: Board, *, shards: bool) -> Fact | None:
    """The one GPU of such a run whose Trainer shards the model: shares are those of processes, not of visible GPUs."""
    if not (shards and board.setting.trainer and is_alone(board)):
        return None
    return derived("world_size", 1, "python starts one process, and shares are those of processes", _launcher(board))


def replicas(board: Board) -> Fact | None:
    """DataParallel, in which the Trainer wraps the model where its one process sees several GPUs (`n_gpu`)."""
    if not (board.setting.trainer and is_alone(board)):
        return None
    reason = "python starts one process, in which the Trainer spreads batches over the GPUs that it sees"
    return derived("parallelism", "dataparallel", reason, _launcher(board))


def _launcher(board: Board) -> Fact | None:
    return board.facts.get("launcher")
