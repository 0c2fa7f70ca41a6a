"""How many GPUs a run fits on unchanged."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.engine.builders import GIB, GPU
from vramlint.estimate import Estimate
from vramlint.fixes.scaling import divides, gpus_needed, launched, spread
from vramlint.job import Batch, Job, Megatron, Mesh, Model, Parallelism, Zero


def simulate(job: Job) -> Estimate:
    """A toy: 80 GiB that all ranks share, and 4 GiB of activations."""
    size = 80 * GIB // job.parallelism.world_size + 4 * GIB
    return Estimate("simulated", size, size, 0, "backward", (), ())


def job(spread: Parallelism, accumulation: int = 8) -> Job:
    return Job(Model("m", "llama"), batch=Batch(1, 2048, accumulation), parallelism=spread)


def test_gpus_are_doubled_until_the_run_fits() -> None:
    card = replace(GPU, usable_bytes=16 * GIB)
    assert gpus_needed(job(Parallelism(4, "fsdp")), card, simulate, 0.95) == 8
    assert gpus_needed(job(Parallelism(2, "deepspeed", Zero(3))), card, simulate, 0.95) == 8
    assert gpus_needed(job(Parallelism(4, "fsdp")), replace(GPU, usable_bytes=4 * GIB), simulate, 0.95) is None


@pytest.mark.parametrize(
    ("shared", "expected"),
    [
        (Parallelism(), False),
        (Parallelism(8, "ddp"), False),
        (Parallelism(8, "deepspeed", Zero(0)), False),
        (Parallelism(8, "deepspeed", Zero(1)), True),
        (Parallelism(8, "fsdp"), True),
        (Parallelism(1, "deepspeed", Zero(3)), True),
        (Parallelism(8, "fsdp", fsdp_sharding="none"), False),
        (Parallelism(8, "fsdp", replicas=2), False),
        (Parallelism(8, "megatron", megatron=Megatron(distributed_optimizer=True)), True),
        (Parallelism(8, "megatron", megatron=Megatron()), False),
    ],
)
def test_more_gpus_help_only_where_they_share_something(shared: Parallelism, expected: bool) -> None:
    assert divides(shared) is expected


def test_the_global_batch_stays_where_accumulation_can_be_divided() -> None:
    larger = spread(job(Parallelism(8, "fsdp")), 4)
    assert (larger.parallelism.world_size, larger.parallelism.nodes) == (32, 4)
    assert larger.batch.gradient_accumulation_steps == 2
    assert spread(job(Parallelism(8, "fsdp"), 1), 2).batch.gradient_accumulation_steps == 1


def test_idle_gpus_of_the_machine_get_processes() -> None:
    ways = {"none": "ddp", "ddp": "ddp", "dataparallel": "ddp", "fsdp": "fsdp", "deepspeed": "deepspeed"}
    for before, after in ways.items():
        larger = launched(job(Parallelism(2, before)), 8)
        assert larger is not None
        assert (larger.parallelism.strategy, larger.parallelism.world_size) == (after, 8)
        assert larger.batch.gradient_accumulation_steps == 2


def test_one_process_for_all_gpus_becomes_one_for_each() -> None:
    larger = launched(job(Parallelism(8, "dataparallel")), 8)
    assert larger is not None
    assert (larger.parallelism.strategy, larger.parallelism.world_size) == ("ddp", 8)
    assert larger.batch.gradient_accumulation_steps == 8


@pytest.mark.parametrize(
    "shared",
    [
        Parallelism(8, "ddp"),
        Parallelism(16, "fsdp"),
        Parallelism(3, "ddp"),
        Parallelism(4, "ddp", nodes=2),
        Parallelism(2, "device_map"),
        Parallelism(2, "ddp", mesh=Mesh(tensor=2)),
        Parallelism(2, "megatron", megatron=Megatron()),
    ],
)
def test_runs_without_idle_gpus_or_that_divide_the_model_otherwise_stay(shared: Parallelism) -> None:
    assert launched(job(shared), 8) is None
