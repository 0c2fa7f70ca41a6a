"""Runs that are given up: never below what they need, and without what they need not record."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.engine.builders import GPU
from tests.memory.runs import jobs, llama
from tests.memory.test_properties import traced_jobs
from tests.memory.test_torchtitan import job as titan
from vramlint.estimate import BEYOND
from vramlint.job import Batch, Checkpointing, Job, Megatron, Mesh, Parallelism, Zero
from vramlint.memory import simulate, step, trace
from vramlint.memory.step import Step

SHARED = [
    Parallelism(),
    Parallelism(2, "device_map"),
    Parallelism(4, "ddp"),
    Parallelism(4, "ddp", bucket_view=True),
    Parallelism(4, "dataparallel"),
    *(Parallelism(4, "deepspeed", Zero(stage)) for stage in range(4)),
    *(Parallelism(4, "deepspeed", Zero(stage, offload_optimizer="cpu")) for stage in (1, 2, 3)),
    Parallelism(4, "deepspeed", Zero(3, offload_parameters="cpu")),
    Parallelism(4, "deepspeed", Zero(1, gradient_accumulation_dtype="float32")),
    *(Parallelism(4, "fsdp", fsdp_version=version) for version in (1, 2)),
    Parallelism(4, "fsdp", fsdp_sharding="none"),
    Parallelism(4, "fsdp", fsdp_sharding="grad-op", fsdp_wraps_layers=False),
    Parallelism(4, "fsdp", fsdp_offload=True),
    Parallelism(4, "fsdp", sync_each_batch=True),
]
APART = [
    Parallelism(4, "megatron", megatron=Megatron(tensor=2)),
    Parallelism(4, "megatron", megatron=Megatron(pipeline=2, distributed_optimizer=True)),
]
PIPELINE = Parallelism(4, "fsdp", fsdp_version=2, mesh=Mesh(pipeline=2, micro_batches=2))


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(jobs(), traced_jobs()), st.sampled_from(SHARED), st.sampled_from(["trainer", "script"]), st.floats(0.2, 1)
)
def test_a_run_is_given_up_only_where_it_needs_more(job: Job, shared: Parallelism, loop: str, part: float) -> None:
    job = replace(job, parallelism=shared, gpu=GPU, objective=replace(job.objective, loop=loop))
    holds(job, part)


@pytest.mark.parametrize("shared", APART)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.8, 0.9, 1.0])
def test_so_is_a_run_of_several_kinds_of_ranks(shared: Parallelism, part: float) -> None:
    assert simulate(llama(parallelism=shared), reserved=False).method == "simulated"
    holds(llama(parallelism=shared, gpu=GPU), part)


@pytest.mark.parametrize("part", [0.3, 0.9, 0.97])
def test_so_is_a_pipeline_of_torch(part: float) -> None:
    job = replace(titan("8B"), parallelism=PIPELINE, gpu=GPU)
    assert simulate(job, reserved=False).method == "simulated"
    holds(job, part)


def holds(job: Job, part: float) -> None:
    whole = simulate(job, reserved=False)
    for limit in (whole.device_high, int(part * whole.device_high)):
        found = trace(job, limit=limit).estimate(reserved=False)
        if found.method == BEYOND:
            assert limit < found.device_high <= whole.device_high
        else:
            assert found == whole


def limited(job: Job, limit: int) -> str:
    return trace(job, limit=limit).estimate(reserved=False).method


def test_states_that_are_too_much_are_not_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    job = llama()
    need = simulate(job, reserved=False)
    held = need.parameters + need.optimizer_states
    monkeypatch.setattr(Step, "run", None)
    assert limited(job, held - 1) == BEYOND
    for stage in (1, 2, 3):
        shared = replace(job, parallelism=Parallelism(4, "deepspeed", Zero(stage)))
        assert limited(shared, held // 4) == BEYOND


def test_beside_them_stand_the_gradients_of_a_partition_and_what_the_update_takes() -> None:
    job = llama(parallelism=Parallelism(4, "deepspeed", Zero(2)))
    found = trace(job, limit=0).estimate(reserved=False)
    whole = simulate(job, reserved=False)
    assert found.device_high > whole.parameters + whole.optimizer_states + whole.gradients // 4


@pytest.mark.parametrize("phase", ["backward", "optimizer"])
def test_a_step_ends_where_it_exceeds(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 64 if phase == "backward" else 1
    job = llama(batch=Batch(rows, 128))
    whole = simulate(job, reserved=False)
    limit = int(0.7 * whole.device_high) if phase == "backward" else whole.device_high - whole.gradients // 2
    target = "Engine" if phase == "backward" else "Step._zero_gradients"
    monkeypatch.setattr(f"{step.__name__}.{target}", None)
    assert limited(job, limit) == BEYOND


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_highest_point_of_a_phase_counts_though_it_is_over(
    accumulation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = llama(batch=Batch(16, 128, accumulation), checkpointing=Checkpointing("nonreentrant"))
    peaks = {phase.phase: phase.allocated for phase in simulate(job, reserved=False).phases}
    assert peaks["backward"] > peaks["forward"]
    assert limited(job, peaks["backward"] - (1 << 16)) == BEYOND
    first = replace(job, batch=replace(job.batch, gradient_accumulation_steps=1))
    forward = {phase.phase: phase.allocated for phase in simulate(first, reserved=False).phases}["forward"]
    monkeypatch.setattr(f"{step.__name__}.Engine", None)
    assert limited(job, forward - (1 << 16)) == BEYOND


def test_what_a_reentrant_checkpoint_hides_from_the_optimizer_is_not_counted() -> None:
    job = llama(frozen_parameters=(".*embed_tokens.*",), checkpointing=Checkpointing("reentrant"))
    job = replace(job, libraries=replace(job.libraries, transformers=(4, 46)))
    whole = simulate(job, reserved=False)
    assert any("get no gradient" in note for note in whole.notes)
    assert limited(job, whole.device_high) == "simulated"
    assert limited(job, whole.parameters - 1) == BEYOND


def test_states_count_where_a_reentrant_checkpoint_hid_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    job = llama(checkpointing=Checkpointing("reentrant"))
    whole = simulate(job, reserved=False)
    monkeypatch.setattr(Step, "_zero_gradients", None)
    assert limited(job, whole.parameters + whole.gradients + whole.optimizer_states // 2) == BEYOND
