"""Tensors that have room on a card, and segments that have not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.memory.runs import llama
from vramlint.catalog.gpus import find_gpu
from vramlint.job import Batch, Checkpointing, Gpu, Job, Precision
from vramlint.memory import simulate
from vramlint.memory.allocator import MIB, CachingAllocator, LimitedAllocator, OutOfMemory

GIB = 1 << 30


def card(usable: int) -> Gpu:
    gpu = find_gpu("a100-80gb")
    assert isinstance(gpu, Gpu)
    return replace(gpu, usable_bytes=usable)


def job(usable: int) -> Job:
    config = {"vocab_size": 128256, "hidden_size": 2048, "num_hidden_layers": 8, "intermediate_size": 8192}
    checkpointed = Checkpointing("nonreentrant")
    small = llama(config, batch=Batch(4, 1024), precision=Precision("bfloat16"), checkpointing=checkpointed)
    return replace(small, gpu=card(usable))


def test_blocks_count_the_rest_that_is_too_small_to_be_split_off():
    allocator = CachingAllocator()
    allocator.release(allocator.allocate(12 * MIB))
    allocator.allocate(12 * MIB - 4096)

    assert allocator.tensors == 12 * MIB - 4096
    assert allocator.blocks == 12 * MIB
    assert allocator.peak_blocks == allocator.peak_tensors == 12 * MIB


def test_free_segments_are_given_back_before_a_request_fails():
    allocator = LimitedAllocator(100 * MIB)
    allocator.release(allocator.allocate(60 * MIB))
    allocator.allocate(80 * MIB)

    assert allocator.reserved == 80 * MIB
    with pytest.raises(OutOfMemory):
        allocator.allocate(30 * MIB)


def test_a_segment_of_which_a_part_is_in_use_cannot_be_given_back():
    allocator = LimitedAllocator(100 * MIB)
    whole = allocator.allocate(60 * MIB)
    allocator.release(whole)
    allocator.allocate(20 * MIB)
    with pytest.raises(OutOfMemory):
        allocator.allocate(50 * MIB)


def test_a_card_between_tensors_and_segments_is_judged_by_whether_the_allocator_gets_through():
    roomy = simulate(job(80 * GIB))
    assert roomy.least == 0
    assert roomy.allocated <= roomy.blocks <= roomy.reserved
    assert roomy.reserved - roomy.allocated > GIB

    tight = simulate(job(roomy.allocated + roomy.outside + 64 * MIB))
    assert tight.allocated == roomy.allocated
    assert tight.least > roomy.allocated
    assert tight.device_low > tight.allocated + tight.outside
    assert any("segments that they break up" in note for note in tight.notes)

    short = simulate(job(roomy.allocated // 2))
    assert short.least == 0
