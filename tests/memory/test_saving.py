"""A whole state dict that FSDP gathers on the device, against storages counted around torch's own code."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.memory.runs import llama
from vramlint.job import Batch, Job, Parallelism, Precision
from vramlint.memory import simulate

CONFIG = {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 2048,
}
MIXED, PLAIN = Precision("float32", "bfloat16"), Precision("float32")
WRAPPED: dict[str, Any] = {}
WHOLE = {"fsdp_wraps_layers": False}
SECOND = {"fsdp_version": 2, "fsdp_by_layers_alone": True}

TRACED: list[tuple[Precision, bool, dict[str, Any], int]] = [
    (MIXED, False, WRAPPED, 17_096_704),
    (PLAIN, False, WRAPPED, 17_096_704),
    (PLAIN, True, WRAPPED, 14_999_552),
    (PLAIN, False, WHOLE, 25_802_752),
    (MIXED, False, SECOND, 12_901_376),
    (PLAIN, True, SECOND, 12_901_376),
]
"""Bytes that `state_dict()` of FSDP 1 and get_model_state_dict over FSDP 2, both whole and on the device, take besides
of a llama of CONFIG that 4 ranks share (torch 2.13; fake tensors): precision, whether the head is tied, how FSDP wraps
it."""


def saved(precision: Precision, tied: bool, wrapping: dict[str, Any], **fields: Any) -> Job:
    shared = replace(Parallelism(4, "fsdp", fsdp_saves_on_device=True), **wrapping, **fields)
    config = {**CONFIG, "tie_word_embeddings": tied}
    return llama(config, precision=precision, parallelism=shared, batch=Batch(1, 8))


def phases(job: Job) -> dict[str, int]:
    return {phase.phase: phase.allocated for phase in simulate(job, reserved=False).phases}


@pytest.mark.parametrize(("precision", "tied", "wrapping", "beside"), TRACED)
def test_what_saving_takes_is_what_torch_takes(
    precision: Precision, tied: bool, wrapping: dict[str, Any], beside: int
) -> None:
    estimate = simulate(saved(precision, tied, wrapping), log=True)
    assert estimate.log is not None
    held = sum(part.bytes for part in estimate.log.resident)

    assert phases(saved(precision, tied, wrapping))["saving"] - held == beside


def test_saving_can_be_the_peak_and_the_components_say_so() -> None:
    estimate = simulate(saved(MIXED, False, WRAPPED), reserved=False)

    assert estimate.peak_phase == "saving"
    assert sum(part.bytes for part in estimate.components) == estimate.allocated


@pytest.mark.parametrize("fields", [{"fsdp_saves_on_device": False}, {"world_size": 1}])
def test_there_is_no_such_phase_elsewhere(fields: dict[str, Any]) -> None:
    job = saved(PLAIN, False, {})
    assert "saving" in phases(job)
    assert "saving" not in phases(replace(job, parallelism=replace(job.parallelism, **fields)))
