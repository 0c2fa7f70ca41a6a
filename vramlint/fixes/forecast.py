"""What a changed step computes, foretold from the estimate of another: enough to tell how long it takes.

A simulation counts it exactly; this tells which of many changes are worth one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from vramlint.estimate import Estimate, Work
from vramlint.job import Job

ADAPTED = 0.01
"""Part of a model's parameters that adapters add."""
_HALF = 0.5
_STATES_8BIT = 0.25


def recomputed_part(estimate: Estimate) -> float | None:
    """What checkpointing runs again of the layers' forward; None where it does not.

    It ends with what backward needs last, so that a layer's last product may be left out (torch 2.13
    utils/checkpoint.py, early stop).
    """
    forward = sum(item.flops for item in estimate.work if item.part == "forward" and item.layers)
    again = sum(item.flops for item in estimate.work if item.part == "recomputed")
    return again / forward if again and forward else None


def foretold(before: Job, estimate: Estimate, after: Job, recomputed: float = 1.0) -> Estimate:
    """The estimate of `before` with the work, weights and states of `after`; its memory stays that of `before`.

    Args:
        before: the job as it is.
        estimate: its own.
        after: the changed job.
        recomputed: what checkpointing would run again of the layers' forward.
    """
    trained = estimate.trainable_parameters
    if after.adapter is not None and before.adapter is None:
        trained = int(ADAPTED * estimate.total_parameters)
    share = trained / max(1, estimate.trainable_parameters)
    share *= _HALF if after.precision.weights != before.precision.weights else 1
    eight = "8bit" in after.optimizer.name and "8bit" not in before.optimizer.name
    return replace(
        estimate,
        trainable_parameters=trained,
        gradients=int(share * estimate.gradients),
        optimizer_states=int(share * estimate.optimizer_states * (_STATES_8BIT if eight else 1)),
        work=tuple(_work(before, after, estimate.work, recomputed)),
        ranks=tuple(replace(rank, work=tuple(_work(before, after, rank.work, recomputed))) for rank in estimate.ranks),
    )


def _work(before: Job, after: Job, work: Iterable[Work], recomputed: float) -> Iterator[Work]:
    rows = after.batch.micro_batch_size / before.batch.micro_batch_size
    length = after.batch.sequence_length / before.batch.sequence_length
    recomputes = before.checkpointing.mode == "none" and after.checkpointing.mode != "none"
    frozen = after.adapter is not None and before.adapter is None
    for item in work:
        times = rows * length * (length if item.kind == "attention" else 1)
        if frozen and item.kind == "linear" and item.part == "backward":
            times *= _HALF  # no gradients of frozen matrices
        scaled = replace(item, dtype=_dtype(before, after, item.dtype), flops=int(times * item.flops))
        yield scaled
        if recomputes and item.part == "forward" and item.layers:
            yield replace(scaled, part="recomputed", flops=int(recomputed * scaled.flops))


def _dtype(before: Job, after: Job, dtype: str) -> str:
    old = before.precision.autocast or before.precision.weights
    new = after.precision.autocast or after.precision.weights
    return new if dtype == old else dtype
