"""Jobs and estimates written by hand: a model of 1000 parameters whose micro batch takes 6·N·D."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from vramlint.catalog.gpus import find_gpu
from vramlint.estimate import Estimate, Work
from vramlint.job import Batch, Gpu, Job, Model, Parallelism, Precision

PARAMETERS = 1000
TOKENS = 2 * 128


def gpu(name: str) -> Gpu:
    found = find_gpu(name)
    assert isinstance(found, Gpu)
    return found


def job(spread: Parallelism | None = None, **parts: Any) -> Job:
    found = Job(Model("m", "llama"), precision=Precision("bfloat16"), batch=Batch(2, 128, 4))
    return replace(found, parallelism=spread or Parallelism(), **parts)


def work(forward: int = 2, backward: int = 4, again: int = 0, dtype: str = "bfloat16") -> tuple[Work, ...]:
    each = PARAMETERS * TOKENS
    parts = (("forward", forward), ("backward", backward), ("recomputed", again))
    return tuple(Work(part, "linear", dtype, True, times * each) for part, times in parts if times)


def estimate(**parts: Any) -> Estimate:
    found = Estimate(
        "simulated", 0, 0, 0, "backward", (), (), parameters=2 * PARAMETERS, trainable_parameters=PARAMETERS,
        total_parameters=PARAMETERS, gradients=2 * PARAMETERS, optimizer_states=4 * PARAMETERS, work=work(),
    )  # fmt: skip
    return replace(found, **parts)
