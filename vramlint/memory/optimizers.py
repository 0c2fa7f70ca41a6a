"""Optimizers as the rest of the memory model sees them: who follows a step, and what it holds at its highest point."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.job import Job
from vramlint.memory.recorder import Recorder
from vramlint.memory.tensor import Parameter
from vramlint.memory.timeline import Timeline
from vramlint.memory.updates import refusal, update_for
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.update import Update


def update_of(job: Job) -> Update | None:
    """Who follows the optimizer of a job; None if nobody does."""
    return update_for(job.optimizer, job.libraries)


def refused(job: Job) -> str:
    """Why nobody follows it; empty if somebody does."""
    return "" if update_of(job) is not None else refusal(job.optimizer)


def held(update: Update, parameters: Sequence[Parameter]) -> int:
    """Bytes that a later step over `parameters` holds beside weights, gradients and states."""
    if update.in_backward or not parameters:
        return 0
    recorder = Recorder()
    recorder.begin("step")
    update.run(Memory(recorder, "", first=False), update.groups(parameters, ()))
    recorder.close()
    return Timeline(recorder.blocks, recorder.sizes, 0).peaks()["step"].bytes
