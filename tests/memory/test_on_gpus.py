"""What kernels hold while they run, against the counters of a real GPU: rows of bench/gpu/measured."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from msgspec.structs import replace

from bench.cases import job_of
from bench.gpu import record
from bench.measured import loaded, measured_job
from vramlint.job import Job, Objective
from vramlint.memory import simulate
from vramlint.memory.kernels import Kernels
from vramlint.memory.reductions import Multiprocessors, partial_sums

MIB = 1 << 20
H200 = Multiprocessors(132, 2048)


@cache
def rows() -> dict[str, dict[str, Any]]:
    return {
        name: row for (_, name), row in record.latest(record.rows_of(record.MEASURED / "nvidia-h200.jsonl")).items()
    }


def job(name: str) -> Job:
    return job_of(rows()[name])


def measured(name: str, phase: str) -> int:
    figure: int = rows()[name]["result"]["steady_step"]["requested"][phase]
    return figure


def predicted(name: str, phase: str) -> int:
    estimate = simulate(job(name), reserved=False)
    return next(found.allocated for found in estimate.phases if found.phase == phase)


@pytest.mark.parametrize(
    ("whole", "reduced", "mib"),
    [
        ((64, 128, 768), (768,), 48),
        ((64, 197, 768), (768,), 73.875),
        ((64, 128, 3072), (3072,), 132),
        ((8, 1369, 768), (8, 768), 66),
        ((2048, 2048), (1, 2048), 32),
        ((4, 128, 768), (768,), 0),
        ((32, 1024), (32, 1), 0),
        ((2, 4096, 4096), (2, 4096, 1), 0),
    ],
)
def test_partial_sums_of_a_reduction(whole, reduced, mib):
    assert partial_sums(H200, whole, reduced) == mib * MIB


def test_smaller_cards_share_rows_among_fewer_blocks():
    t4 = Multiprocessors(40, 1024)

    assert partial_sums(t4, (64, 128, 768), (768,)) == 4 * 768 * 54 * 128
    assert partial_sums(H200, (64, 128, 766), (766,)) < partial_sums(H200, (64, 128, 768), (768,))


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("distilbert-fp32", "backward"),  # the gradient of a bias
        ("bert-cls-amp", "backward"),
        ("vit-amp", "backward"),
        ("vit-large-fp16-ckpt", "backward"),
        ("convnext-amp", "backward"),
        ("swin-fp32", "backward"),
        ("qwen3-liger-amp", "backward"),  # the gradient of a norm's weight
        ("dinov2-amp", "forward"),  # the mean over patches
        ("falcon-bf16", "backward"),  # the softmax of attention in math
        ("llama3-amp-ckpt", "backward"),  # the embedding
        ("llama1b-adafactor-torch", "optimizer"),  # norms of columns
        ("t5-amp", "forward"),  # a mask whose rows do not lie in one piece
        ("t5-amp", "backward"),
        ("flan-t5-lora", "backward"),
    ],
)
def test_peak_of_a_phase(name, phase):
    assert abs(predicted(name, phase) - measured(name, phase)) < MIB // 2


def first_step(name: str, phase: str) -> tuple[int, int]:
    estimate = simulate(job(name), reserved=False)
    seen: int = rows()[name]["result"]["first_step"]["requested"][phase]
    return next(found.allocated for found in estimate.first_step if found.phase == phase), seen


@pytest.mark.parametrize("name", ["llama3-bf16", "llama2-fp32", "llama1b-liger", "gpt2-fp32", "llama3-8b-lora-ckpt"])
@pytest.mark.parametrize("phase", ["forward", "backward", "optimizer"])
def test_a_thread_has_its_workspace_from_its_first_product_on(name, phase):
    ours, theirs = first_step(name, phase)

    assert abs(ours - theirs) < MIB // 4


@pytest.mark.parametrize("name", ["gpt2-fp32", "gpt2-foreach-ckpt", "opt-fp16", "qwen25-7b-bf16", "bert-mlm-fp32"])
def test_products_with_a_bias_have_a_workspace_of_their_own(name):
    assert abs(predicted(name, "forward") - measured(name, "forward")) < MIB // 8


@pytest.mark.parametrize(
    "name",
    [
        "falcon-bf16",
        "gemma2-amp",
        "gemma2-eager",
        "gpt2-fp32",
        "llama1b-bf16",
        "llama1b-sgd",
        "llama3-amp",
        "llama3-label-smoothing",
        "qwen3-8b-amp-ckpt",
        "t5-amp",
    ],
)
def test_segments_of_a_run(name):
    estimate = simulate(measured_job(rows()[name]))
    seen = rows()[name]["result"]["steady_step"]["peak_reserved"]

    assert abs(estimate.reserved - seen) < 0.002 * seen


@pytest.mark.parametrize("name", ["llama3-qlora-ckpt", "llama3-qlora-amp"])
def test_weights_quantized_while_they_are_loaded(name):
    seen = rows()[name]["result"]["loading"]["requested"]

    assert abs(loaded(rows()[name]).allocated - seen) < MIB // 8


def test_later_torch_shares_the_workspace_of_products_with_a_bias():
    older = job("gpt2-foreach-ckpt")
    newer = replace(older, libraries=replace(older.libraries, torch=(2, 13, 0)))
    peaks = [simulate(one, reserved=False).allocated for one in (older, newer)]

    assert peaks[0] - peaks[1] == 2 * MIB


def test_generation_has_no_backward_thread():
    trained = job("llama1b-bf16")
    generating = replace(trained, objective=Objective("generation"), batch=replace(trained.batch, generated_tokens=8))
    workspaces = {part.name: part.bytes for part in simulate(generating, reserved=False).components}

    assert workspaces["cuBLAS workspaces"] == 32 * MIB


def test_a_dispatch_mode_sees_no_kernel_from_inside():
    seen = simulate(job("distilbert-fp32"), reserved=False, observed=True)
    alone = simulate(job("distilbert-fp32"), reserved=False)

    assert alone.allocated - seen.allocated == 48 * MIB


def test_cards_without_known_multiprocessors_are_taken_for_an_a100():
    assert Multiprocessors.of(job("distilbert-fp32")) == H200
    assert Multiprocessors() == Multiprocessors(108, 2048)
    assert Kernels().capability == (8, 0)
