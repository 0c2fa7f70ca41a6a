"""Steps of which only the optimizer's part is traced, as the rest is that of another job."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.engine.builders import GPU
from tests.memory.runs import OPTIMIZERS, jobs, llama
from vramlint.estimate import BEYOND, Estimate
from vramlint.job import (
    Adapter,
    Allocator,
    Batch,
    Checkpointing,
    Evaluation,
    Job,
    Loading,
    Objective,
    Optimizer,
    Parallelism,
    Precision,
    Zero,
)
from vramlint.memory import retraced, simulate
from vramlint.memory.retraced import Passes
from vramlint.memory.simulate import trace
from vramlint.memory.step import Step

MIXED = Precision("float32", "bfloat16")
JOBS = [
    llama(),
    llama(objective=Objective(loop="script"), batch=Batch(2, 128, 2)),
    llama(batch=Batch(2, 128, 4), evaluation=Evaluation(2)),
    llama(adapter=Adapter(), checkpointing=Checkpointing("reentrant"), precision=MIXED),
    llama(precision=MIXED, parallelism=Parallelism(4, "fsdp")),
    llama(precision=MIXED, objective=Objective(loop="script"), parallelism=Parallelism(4, "fsdp", fsdp_version=2)),
    llama(precision=MIXED, batch=Batch(2, 128, 2), parallelism=Parallelism(4, "ddp")),
    *(
        llama(gpu=GPU, precision=MIXED, batch=Batch(2, 128, 2), parallelism=Parallelism(4, "deepspeed", Zero(stage)))
        for stage in range(4)
    ),
]


def estimated(job: Job, passes: Passes) -> Estimate:
    """The estimate of a job whose passes may be those of another one."""
    return trace(job, passes=passes).estimate(log=True)


def noted(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs whose backwards are traced from now on."""
    traced: list[Job] = []
    original = Step._backward

    def backward(self: Step, loss: object) -> None:
        traced.append(self.job)
        original(self, loss)  # type: ignore[arg-type]

    monkeypatch.setattr(Step, "_backward", backward)
    return traced


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("name", ["adamw_bnb_8bit", "adafactor", "sgd"])
def test_a_job_with_another_optimizer_needs_what_it_needs_alone(
    job: Job, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(job, optimizer=Optimizer(name), loading=Loading("bfloat16"), allocator=Allocator(True))
    alone, own = simulate(other, log=True), simulate(job, log=True)
    passes = Passes()
    assert estimated(job, passes) == own

    traced = noted(monkeypatch)
    assert estimated(other, passes) == alone
    assert not traced


@settings(max_examples=60, deadline=None)
@given(jobs(), st.sampled_from(OPTIMIZERS), st.sampled_from([None, "script"]))
def test_no_optimizer_takes_over_what_is_not_its_own(job: Job, name: str, loop: str | None) -> None:
    job = replace(job, objective=replace(job.objective, loop=loop or job.objective.loop))
    other = replace(job, optimizer=replace(job.optimizer, name=name))
    passes = Passes()
    trace(job, passes=passes)

    assert estimated(other, passes) == simulate(other, log=True)


@pytest.mark.parametrize(
    "other", [Parallelism(4, "deepspeed", Zero(3, "cpu", "cpu")), Parallelism(8, "deepspeed", Zero(3), nodes=2)]
)
def test_the_passes_of_stage_3_do_not_ask_where_and_in_how_many_parts_weights_wait(
    other: Parallelism, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = llama(parallelism=Parallelism(4, "deepspeed", Zero(3)))
    changed = replace(job, parallelism=other)
    alone = simulate(changed, log=True)
    passes = Passes()
    trace(job, passes=passes)
    traced = noted(monkeypatch)

    assert estimated(changed, passes) == alone
    assert not traced


@pytest.mark.parametrize("job", JOBS)
def test_what_is_given_up_is_given_up_at_the_same_place(job: Job) -> None:
    other = replace(job, optimizer=Optimizer("sgd"))
    need = simulate(other, reserved=False).device_high
    passes = Passes()
    found = []
    for part in (8, 17, 9, 16, 10, 15, 11, 14, 12, 13):
        limit = need * part // 16
        alone = trace(other, limit=limit).estimate(reserved=False)
        trace(job, limit=limit - part, passes=passes)
        assert trace(other, limit=limit, passes=passes).estimate(reserved=False) == alone
        found.append(alone.method)

    assert {*found} == {BEYOND, "simulated"}


def test_passes_go_on_where_a_job_before_was_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    job = llama(batch=Batch(16, 512))
    need = simulate(job, reserved=False).device_high
    passes = Passes()
    assert trace(job, limit=need // 2, passes=passes).estimate().method == BEYOND

    traced = noted(monkeypatch)
    assert estimated(job, passes).method == "simulated"
    assert estimated(replace(job, optimizer=Optimizer("sgd")), passes).method == "simulated"
    assert len(traced) == 1


def test_what_cannot_be_traced_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        tried.append(1)
        raise ZeroDivisionError

    tried: list[int] = []
    monkeypatch.setattr(Step, "_backward", fails)
    passes = Passes()

    for name in ("sgd", "adafactor"):
        assert trace(llama(optimizer=Optimizer(name)), passes=passes).estimate().method == "bounded"
    assert len(tried) == 1


def test_old_passes_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraced, "MOST_EVENTS", 3000)
    passes = Passes()
    for rows in range(1, 9):
        trace(llama(batch=Batch(rows, 128)), passes=passes)

    assert 0 < len(passes._kept) < 8
