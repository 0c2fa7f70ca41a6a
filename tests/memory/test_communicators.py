"""Communicators of a run: which there are, of how many ranks, and that none grows with the machines."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.memory.runs import llama
from vramlint.job import Megatron, Model, Parallelism, SharedSequence, Zero
from vramlint.memory.communicators import (
    GROUP_BYTES,
    NETWORK_BYTES,
    PAIR_BYTES,
    PEER_BYTES,
    Communicator,
    communicators,
)


def found(parallelism: Parallelism, dispatcher: str = "alltoall") -> dict[str, Communicator]:
    job = replace(llama(), parallelism=parallelism)
    if parallelism.megatron is not None:
        job = replace(job, model=Model("m", "megatron", {"dispatcher": dispatcher}))
    return {group.name: group for group in communicators(job)}


@pytest.mark.parametrize(
    ("parallelism", "ranks"),
    [
        (Parallelism(), {}),
        (Parallelism(8, "device_map"), {}),
        (Parallelism(8, "ddp"), {"world": 8}),
        (Parallelism(8, "fsdp"), {"world": 8}),
        (Parallelism(8, "dataparallel"), {"replicas": 8}),
        (Parallelism(8, "deepspeed", zero=Zero(3)), {"world": 8, "data": 8}),
        (
            Parallelism(8, "deepspeed", zero=Zero(3), sequence=SharedSequence(4)),
            {"world": 8, "data": 8, "sequence": 4, "sequence, all-to-all": 4},
        ),
        (Parallelism(8, "fsdp", sequence=SharedSequence(4, "ring")), {"world": 8, "sequence": 4}),
        (Parallelism(128, "fsdp", nodes=16, replicas=16), {"world": 128, "shards": 8, "copies": 16}),
        (
            Parallelism(64, "megatron", megatron=Megatron(tensor=4, pipeline=2, context=2), nodes=8),
            {
                "world": 64,
                "tensor": 4,
                "context": 2,
                "data and context": 8,
                "data": 4,
                "model": 8,
                "pipeline": 2,
            },
        ),
        (
            Parallelism(16, "megatron", megatron=Megatron(expert=8, expert_tensor=1), nodes=2),
            {"world": 16, "data and context": 16, "expert data": 2, "experts": 8},
        ),
    ],
)
def test_every_group_of_several_ranks_has_one(parallelism, ranks):
    assert {name: group.ranks for name, group in found(parallelism).items()} == ranks


def test_two_ranks_take_less_than_more_and_thousands_as_much_as_eight():
    assert found(Parallelism(2, "ddp"))["world"].nbytes == PAIR_BYTES
    assert found(Parallelism(8, "ddp"))["world"].nbytes == GROUP_BYTES
    assert found(Parallelism(4096, "ddp", nodes=512))["world"].nbytes == GROUP_BYTES


def test_ranks_that_send_to_one_another_have_buffers_by_pair_or_share_that_of_the_network():
    stages = Megatron(pipeline=4)
    assert found(Parallelism(8, "megatron", megatron=stages))["pipeline"].nbytes == 2 * PEER_BYTES
    assert found(Parallelism(32, "megatron", megatron=stages, nodes=4))["pipeline"].nbytes == NETWORK_BYTES
    experts = Megatron(expert=16)
    one, four = (Parallelism(16, "megatron", megatron=experts, nodes=nodes) for nodes in (1, 4))
    assert found(one)["experts"].nbytes == 15 * PEER_BYTES
    assert found(four)["experts"].nbytes == 3 * PEER_BYTES + NETWORK_BYTES
    assert found(four, "allgather")["experts"].nbytes == GROUP_BYTES
