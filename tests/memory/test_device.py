"""Device memory outside torch's allocator."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.memory.runs import llama
from vramlint.catalog.gpus import find_gpu
from vramlint.job import Gpu, Job, Libraries, Parallelism
from vramlint.memory.communicators import PAIR_BYTES
from vramlint.memory.device import context_bytes, engine_workspace_bytes, outside

MIB = 1 << 20


def on(gpu: str, *torch: int) -> Job:
    card = find_gpu(gpu)
    assert isinstance(card, Gpu)
    return replace(llama(), gpu=card, libraries=Libraries(torch=torch))


@pytest.mark.parametrize(
    ("gpu", "low", "high"), [("rtx3090", 1500, 1700), ("t4", 1000, 1100), ("v100-16gb", 1300, 1400)]
)
def test_an_old_torch_loads_every_kernel(gpu, low, high):
    assert low * MIB < context_bytes(on(gpu, 1, 12)) < high * MIB
    assert context_bytes(on(gpu, 2, 4)) < 500 * MIB


def test_without_a_card_nothing_is_counted():
    assert context_bytes(llama()) == engine_workspace_bytes(llama()) == 0
    assert outside(replace(llama(), parallelism=Parallelism(2, "ddp"))) == ()


def test_what_lies_outside_is_the_context_and_every_communicator():
    job = on("rtx3090", 2, 4)
    assert [part.bytes for part in outside(job)] == [context_bytes(job)]
    found = outside(replace(job, parallelism=Parallelism(2, "ddp")))
    assert [(part.name, part.bytes) for part in found[1:]] == [("NCCL, world (2 ranks)", PAIR_BYTES)]
