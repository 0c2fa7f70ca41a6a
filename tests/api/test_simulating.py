from __future__ import annotations

import ast
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.memory.runs import llama
from vramlint import memory
from vramlint.api.simulating import Simulator
from vramlint.estimate import BEYOND
from vramlint.job import Job, Megatron, Parallelism
from vramlint.memory import Simulation, simulate, trace


def test_equal_jobs_are_simulated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = Simulator()
    job = llama()
    first = simulator(job, reserved=False)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("simulated again")

    monkeypatch.setattr("vramlint.memory.trace", fail)
    assert simulator(replace(job), reserved=False) is first
    with pytest.raises(AssertionError, match="again"):
        simulator(replace(job, batch=replace(job.batch, micro_batch_size=7)), reserved=False)
    assert simulator(job) == simulate(job)
    assert simulator(job, log=True) == simulate(job, log=True)


def test_jobs_that_differ_in_what_fills_their_rows_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = Simulator()
    job = llama()
    packed = replace(job, batch=replace(job.batch, packing=not job.batch.packing, varies=not job.batch.varies))
    first = simulator(job, reserved=False)
    assert simulate(packed, reserved=False) == first

    monkeypatch.setattr("vramlint.memory.trace", None)
    assert simulator(packed, reserved=False) is first


def test_the_memory_model_does_not_look_at_what_fills_rows() -> None:
    for path in Path(memory.__path__[0]).rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        read = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        assert not read & {"packing", "varies"}, path


def test_runs_are_kept_while_they_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[int] = []

    def counted(job: Job, **_: object) -> Simulation:
        traced.append(job.batch.micro_batch_size)
        return trace(job)

    monkeypatch.setattr("vramlint.memory.trace", counted)
    jobs = [replace(llama(), batch=replace(llama().batch, micro_batch_size=size)) for size in (1, 2)]
    events = [trace(job).events for job in jobs]
    for most, expected in ((sum(events), [1, 2]), (max(events), [1, 2, 1, 2])):
        monkeypatch.setattr("vramlint.api.simulating.MOST_EVENTS", most)
        traced.clear()
        simulator = Simulator()
        for reserved in (False, True):
            for job in jobs:
                simulator(job, reserved=reserved)
        assert traced == expected


def test_what_surely_exceeds_a_limit_is_given_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = Simulator()
    job = llama()
    whole = simulate(job, reserved=False)
    limit = whole.device_high // 2
    first = simulator(job, reserved=False, limit=limit)
    assert (first.method, first.allocated < whole.allocated) == (BEYOND, True)
    with monkeypatch.context() as patched:
        patched.setattr("vramlint.memory.trace", None)
        assert simulator(job, reserved=False, limit=limit) is first
        assert simulator(job, reserved=False, limit=first.device_high - 1) is first
    assert simulator(job, reserved=False, limit=whole.device_high) == whole
    assert simulator(job, reserved=False, limit=limit) == whole
    assert simulator(job, limit=limit) == simulate(job)


def test_what_was_given_up_is_simulated_where_it_is_wanted_whole() -> None:
    simulator = Simulator()
    job = llama()
    assert simulator(job, reserved=False, limit=1).method == BEYOND
    assert simulator(job, reserved=False) == simulate(job, reserved=False)


def test_ranks_that_exceed_a_limit_are_given_up_together() -> None:
    simulator = Simulator()
    job = llama(parallelism=Parallelism(4, "megatron", megatron=Megatron(pipeline=2)))
    whole = simulate(job, reserved=False)
    for part in (0.5, 0.9):
        assert simulator(job, reserved=False, limit=int(part * whole.device_high)).method == BEYOND
    assert simulator(job, reserved=False) == whole
