"""FSDP over a model that is whole on the device, against storages counted around torch's own code."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.memory.runs import llama
from tests.memory.test_saving import CONFIG, WHOLE, WRAPPED
from vramlint.job import Batch, Job, Loading, Parallelism, Precision
from vramlint.memory import simulate

SECOND = {"fsdp_version": 2, "fsdp_by_layers_alone": True}
TRACED: list[tuple[bool, dict[str, Any], int]] = [
    (False, WRAPPED, 16_529_920),
    (True, WRAPPED, 14_432_768),
    (False, WHOLE, 29_029_376),
    (False, SECOND, 13_628_416),
    (True, SECOND, 11_531_264),
]
"""Highest sum of storages while FullyShardedDataParallel or fully_shard go over a float32 llama of CONFIG that is on
the device of one of 4 ranks (torch 2.13; fake tensors), by whether the head is tied and how FSDP wraps."""


def sharded(tied: bool, wrapping: dict[str, Any], *, whole: bool = True, world: int = 4) -> Job:
    return llama(
        {**CONFIG, "tie_word_embeddings": tied},
        precision=Precision("float32"),
        parallelism=replace(Parallelism(world, "fsdp"), **wrapping),
        loading=Loading("float32", mapped=False, whole=whole),
        batch=Batch(1, 8),
    )


def loading(job: Job) -> int:
    return simulate(job, reserved=False).phases[0].allocated


@pytest.mark.parametrize(("tied", "wrapping", "peak"), TRACED)
def test_a_whole_model_is_there_beside_the_first_share(tied: bool, wrapping: dict[str, Any], peak: int) -> None:
    assert abs(loading(sharded(tied, wrapping)) - peak) <= 4096


def test_a_model_that_comes_in_shares_is_not() -> None:
    shares = loading(sharded(False, WRAPPED, whole=False))

    assert loading(sharded(False, WRAPPED)) > 4 * shares
    assert loading(sharded(False, WRAPPED, world=1)) == loading(sharded(False, WRAPPED, whole=False, world=1))
