"""The largest value of a setting with which a run fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from vramlint.facts import FactValue
from vramlint.fixes.changes import Changes
from vramlint.job import Job

MICRO_BATCH, SEQUENCE, RANK = "micro-batch", "seq-len", "lora-rank"
_MOST_ROWS = 4096
_MOST_RANK = 2048
_POSITIONS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "max_seq_len")


class Setting(Struct, frozen=True):
    """A number of a job that can grow."""

    now: Callable[[Job], int | None]
    """None where the job has no such number."""
    change: Callable[[Job, int], Job]
    facts: Callable[[Job, int], Changes]
    most: Callable[[Job], tuple[int, str]]
    """The largest value that is tried, and why."""
    step: int


def _with_rows(job: Job, rows: int) -> Job:
    """As many samples for each step as before, as far as whole micro batches make them."""
    total = job.batch.micro_batch_size * job.batch.gradient_accumulation_steps
    batch = replace(job.batch, micro_batch_size=rows, gradient_accumulation_steps=max(1, total // rows))
    return replace(job, batch=batch)


def _rows_facts(job: Job, rows: int) -> Changes:
    batch = _with_rows(job, rows).batch
    changes: dict[str, FactValue] = {"micro_batch_size": rows}
    if batch.gradient_accumulation_steps != job.batch.gradient_accumulation_steps:
        changes["gradient_accumulation_steps"] = batch.gradient_accumulation_steps
    return changes


def _positions(job: Job) -> tuple[int, str]:
    found = next((size for key in _POSITIONS if isinstance(size := job.model.config.get(key), int)), None)
    return (found, "the model's positions end there") if found else (1 << 20, "no longer one was tried")


def _with_rank(job: Job, rank: int) -> Job:
    return replace(job, adapter=replace(job.adapter, r=rank) if job.adapter is not None else None)


SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        MICRO_BATCH: Setting(
            lambda job: job.batch.micro_batch_size,
            _with_rows,
            _rows_facts,
            lambda _: (_MOST_ROWS, "no larger one was tried"),
            1,
        ),
        SEQUENCE: Setting(
            lambda job: job.batch.sequence_length,
            lambda job, length: replace(job, batch=replace(job.batch, sequence_length=length)),
            lambda _, length: {"sequence_length": length},
            _positions,
            64,
        ),
        RANK: Setting(
            lambda job: job.adapter.r if job.adapter is not None and job.adapter.method == "lora" else None,
            _with_rank,
            lambda _, rank: {"lora_r": rank},
            lambda _: (_MOST_RANK, "no larger one was tried"),
            8,
        ),
    }
)


def largest(step: int, now: int, most: int, fits: Callable[[int], bool]) -> int | None:
    """The largest multiple of `step` up to `most` for which `fits`, by doubling and halving; None if none does.

    Args:
        step: the values that are tried are multiples of it.
        now: where the search begins.
        most: the largest value.
        fits: whether a value fits; what holds for a value holds for all below.
    """
    last = most // step
    good, bad = 0, last + 1
    guess = max(1, min(last, now // step))
    while good + 1 < bad:
        if fits(guess * step):
            good = guess
        else:
            bad = guess
        guess = min(2 * good, last) if bad > last and good else (good + bad) // 2
        guess = max(good + 1, min(guess, bad - 1))
    return good * step if good else None


def keeping(job: Job, rows: int) -> int:
    """The largest micro batch up to `rows` of which whole ones make the job's effective batch."""
    total = job.batch.micro_batch_size * job.batch.gradient_accumulation_steps
    return max(size for size in range(1, min(rows, total) + 1) if total % size == 0)
