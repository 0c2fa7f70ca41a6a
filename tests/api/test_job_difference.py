"""The parts in which two jobs differ."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from vramlint.api.job_difference import causes
from vramlint.estimate import Estimate
from vramlint.job import Adapter, Batch, Checkpointing, Job, Libraries, Model, Optimizer, Parallelism

BASE = Job(Model("a", "gpt2", config={"n_layer": 2}), batch=Batch(4, 512))

DEEPER = replace(BASE.model, config={"n_layer": 4})


def simulate(job: Job) -> Estimate:
    """A peak in which every part that the tests change counts for itself."""
    size = job.batch.micro_batch_size * job.batch.sequence_length + len(job.optimizer.name) * 10_000
    size += 7 * int(job.adapter is not None) + 100 * job.parallelism.world_size + len(job.checkpointing.mode)
    size += (
        1_000 * int(str(job.model.config.get("n_layer"))) + job.libraries.torch[1] + 3 * bool(job.batch.padding_free)
    )
    return Estimate("simulated", size, size, 0, "backward", (), ())


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (replace(BASE, batch=replace(BASE.batch, sequence_length=1024)), ("sequence length", "512", "1024")),
        (replace(BASE, batch=replace(BASE.batch, padding_free=True)), ("batch", "padding free off", "padding free on")),
        (replace(BASE, optimizer=Optimizer("sgd")), ("optimizer", "adamw_torch", "sgd")),
        (replace(BASE, adapter=Adapter()), ("adapter", "none", "lora")),
        (replace(BASE, parallelism=Parallelism(2)), ("parallelism", "world size 1", "world size 2")),
        (replace(BASE, checkpointing=Checkpointing("reentrant")), ("activation checkpointing", "none", "reentrant")),
        (
            replace(BASE, model=replace(BASE.model, config={"n_layer": 4})),
            ("model", "config n_layer 2", "config n_layer 4"),
        ),
        (replace(BASE, libraries=Libraries((2, 9, 0))), ("library versions", "torch 2.13.0", "torch 2.9.0")),
    ],
)
def test_one_part(after: Job, told: tuple[str, str, str]) -> None:
    (cause,) = causes(replace(BASE, optimizer=Optimizer("adamw_torch")), _with_optimizer(after), simulate)
    assert (cause.name, cause.before, cause.after) == told


def _with_optimizer(job: Job) -> Job:
    return job if job.optimizer.name == "sgd" else replace(job, optimizer=Optimizer("adamw_torch"))


def test_effects_add_up_and_the_largest_comes_first() -> None:
    after = replace(BASE, batch=Batch(8, 1024), parallelism=Parallelism(4), adapter=Adapter())
    found = causes(BASE, after, simulate)
    assert sum(cause.bytes for cause in found) == simulate(after).allocated - simulate(BASE).allocated
    sizes = [abs(cause.bytes) for cause in found]
    assert sizes == sorted(sizes, reverse=True)


def test_what_does_nothing_is_left_out() -> None:
    assert causes(BASE, replace(BASE, batch=replace(BASE.batch, gradient_accumulation_steps=8)), simulate) == ()
