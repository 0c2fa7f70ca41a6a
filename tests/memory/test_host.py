"""Host memory of one machine: loading, running, saving; page-locked tensors; NVMe."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.memory.runs import llama
from vramlint.estimate import Node
from vramlint.job import Adapter, Job, Loading, Objective, Optimizer, Parallelism, Precision, Quantization, Zero
from vramlint.memory import simulate

WORLD = 8
PARAMETERS = 5_451_008
"""Of the small llama."""


def zero(stage: int, optimizer: str = "cpu", parameters: str = "none", **options: object) -> Job:
    return llama(
        precision=Precision("bfloat16"),
        optimizer=Optimizer("DeepSpeedCPUAdam"),
        parallelism=Parallelism(
            WORLD,
            "deepspeed",
            zero=Zero(stage, offload_optimizer=optimizer, offload_parameters=parameters, **options),  # type: ignore[arg-type]
        ),
    )


def node(job: Job) -> Node:
    found = simulate(job, reserved=False).node
    assert found is not None
    return found


def phase(job: Job, name: str) -> dict[str, int]:
    return {part.name: part.bytes for item in node(job).phases if item.phase == name for part in item.components}


def test_parameters() -> None:
    assert simulate(llama(), reserved=False).total_parameters == PARAMETERS


@pytest.mark.parametrize(
    ("parallelism", "copies"),
    [
        (Parallelism(WORLD, "ddp"), 8),
        (Parallelism(64, "ddp", nodes=8), 8),
        (Parallelism(WORLD, "deepspeed", zero=Zero(2)), 8),
        (Parallelism(WORLD, "deepspeed", zero=Zero(3)), 0),
        (Parallelism(WORLD, "fsdp"), 8),
        (Parallelism(WORLD, "dataparallel"), 1),
        (Parallelism(WORLD, "device_map"), 0),
        (Parallelism(), 1),
    ],
    ids=lambda item: item.strategy if isinstance(item, Parallelism) else "",
)
def test_converted_weights_are_of_each_process(parallelism: Parallelism, copies: int) -> None:
    job = replace(llama(), parallelism=parallelism, loading=Loading("float32", mapped=False))
    assert node(job).copies == copies
    assert sum(phase(job, "loading").values()) == copies * 4 * PARAMETERS


@pytest.mark.parametrize("mapped", [True, None])
def test_weights_in_the_checkpoints_dtype_are_its_mapped_file(mapped: bool | None) -> None:
    job = replace(llama(), parallelism=Parallelism(WORLD, "ddp"), loading=Loading("bfloat16", mapped))
    assert phase(job, "loading") == {}


def test_one_process_loads_for_all_under_fsdps_efficient_loading() -> None:
    loading = Loading("float32", mapped=False, by_one=True)
    job = replace(llama(), parallelism=Parallelism(WORLD, "fsdp"), loading=loading)
    assert phase(job, "loading") == {"weights, copied": 4 * PARAMETERS}


def test_a_quantized_base_goes_to_the_device_tensor_by_tensor() -> None:
    loading = Loading("float32", mapped=False)
    job = replace(llama(), quantization=Quantization(), adapter=Adapter(), loading=loading)
    assert phase(job, "loading") == {}


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_an_offloaded_optimizer_takes_eighteen_bytes_of_a_parameter(stage: int) -> None:
    job = zero(stage, optimizer_pinned=False)
    running = phase(job, "running")
    assert sum(running.values()) == pytest.approx(WORLD * simulate(job, reserved=False).host, rel=1e-3)
    running.pop("largest gradient", None)
    assert sum(running.values()) == pytest.approx(18 * PARAMETERS, rel=1e-4)


def test_page_locked_tensors_are_rounded_to_powers_of_two() -> None:
    part = PARAMETERS // WORLD
    plain, pinned = (phase(zero(2, optimizer_pinned=flag), "running") for flag in (False, True))
    power = 1 << (4 * part - 1).bit_length()
    assert pinned["master weights"] == pinned["gradients"] == WORLD * power
    assert pinned["16-bit staging"] == WORLD * power // 2
    assert pinned["optimizer states"] == plain["optimizer states"]
    found = node(zero(2))
    assert found.rounding == sum(pinned.values()) - sum(plain.values()) > 0
    assert node(zero(2, optimizer_pinned=False)).pinned == 0


def test_stage_3_has_its_master_weights_pageable_and_its_gradients_by_sub_group() -> None:
    group = 100_000
    running = phase(zero(3, sub_group_size=group), "running")
    part = PARAMETERS // WORLD
    full, rest = divmod(part, group)
    assert running["master weights"] == WORLD * 4 * part
    assert running["gradients"] == WORLD * (full * (1 << 19) + (1 << (4 * rest - 1).bit_length()))


def test_accumulated_gradients_of_stage_2_are_on_the_host_a_second_time() -> None:
    job = zero(2, optimizer_pinned=False)
    more = replace(job, batch=replace(job.batch, gradient_accumulation_steps=4))
    assert phase(more, "running")["accumulated gradients"] == pytest.approx(2 * PARAMETERS, rel=1e-3)


def test_offloaded_parameters_add_their_sixteen_bits() -> None:
    without, both = (phase(zero(3, parameters=device), "running") for device in ("none", "cpu"))
    assert "weights" not in without
    assert both["weights"] == WORLD * (1 << (2 * -(-PARAMETERS // WORLD) - 1).bit_length())


def test_swapping_to_nvme_leaves_buffers_in_memory_and_the_rest_on_disk() -> None:
    job = zero(3, "nvme", "nvme", parameters_in_ram=1000, swap_buffer_size=2000, optimizer_swap_buffers=4)
    running, part = phase(job, "running"), -(-PARAMETERS // WORLD)
    assert running["swap buffers"] == WORLD * (4 * 4 * part + 5 * 2 * 2000)
    assert running["weights"] == WORLD * 2048
    assert node(job).disk == WORLD * (16 * part + 2 * part)
    assert node(zero(3)).disk == 0


@pytest.mark.parametrize("version", [1, 2])
def test_fsdp_offloads_shares_gradients_and_states(version: int) -> None:
    parallelism = Parallelism(WORLD, "fsdp", fsdp_offload=True, fsdp_version=version)
    job = llama(precision=Precision("float32", "bfloat16"), parallelism=parallelism)
    running = phase(job, "running")
    assert running["optimizer states"] == pytest.approx(8 * PARAMETERS, rel=1e-3)
    assert running["weights"] == running["gradients"]
    assert 4 * PARAMETERS <= running["weights"] <= 8 * PARAMETERS
    assert node(job).pinned == running["weights"] + running["gradients"]


def test_saving_gathers_on_one_process_or_writes_file_by_file() -> None:
    assert phase(zero(3, "none", gathers_on_save=True), "saving") == {"gathered weights": 2 * PARAMETERS}
    assert phase(zero(3, "none"), "saving") == {}
    assert phase(llama(), "saving") == {"weights of a file": 4 * PARAMETERS}


def test_full_state_dicts_come_together_in_one_process_and_lower_stages_clone_in_each() -> None:
    mixed = Precision("float32", "bfloat16")
    shared = Parallelism(WORLD, "fsdp", fsdp_gathers_on_save=True)
    both = {"gathered weights": 4 * PARAMETERS, "weights of a file": 4 * PARAMETERS}
    assert phase(llama(precision=mixed, parallelism=shared), "saving") == both
    assert phase(llama(precision=mixed, parallelism=replace(shared, fsdp_gathers_on_save=False)), "saving") == {}
    cloned = {"cloned weights": WORLD * 2 * PARAMETERS, "weights of a file": 2 * PARAMETERS}
    assert phase(zero(2, "none"), "saving") == cloned


def test_thousands_of_machines_have_each_what_one_has_of_its_ranks() -> None:
    one = phase(zero(2, optimizer_pinned=False), "running")
    job = zero(2, optimizer_pinned=False)
    many = replace(job, parallelism=replace(job.parallelism, world_size=64, nodes=8))
    assert phase(many, "running")["master weights"] == pytest.approx(one["master weights"] / 8, rel=1e-3)


def test_inference_has_no_machine() -> None:
    assert simulate(replace(llama(), objective=Objective(kind="inference")), reserved=False).node is None
