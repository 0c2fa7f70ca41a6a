"""Bytes that GPUs send one another, by the volumes of the papers: 2Ψ for data parallelism, 3Ψ for ZeRO stage 3."""

from __future__ import annotations

import pytest

from tests.cost.builders import PARAMETERS, estimate, job
from vramlint.cost.communication import communication
from vramlint.job import Batch, Megatron, Model, Parallelism, Precision, Quantization, SharedSequence, Zero

PSI = 2 * PARAMETERS
"""Bytes of all weights in 16 bits."""
LAST = 7 / 8


def sent(spread: Parallelism, **parts) -> dict[str, int]:
    return {item.name: item.bytes for item in communication(job(spread, **parts), estimate())}


def zero(stage: int) -> Parallelism:
    return Parallelism(8, "deepspeed", Zero(stage))


def test_one_gpu_sends_nothing():
    assert sent(Parallelism()) == {}
    assert sent(Parallelism(8, "device_map")) == {}


def test_data_parallelism_and_the_first_stage_of_zero_send_twice_the_gradients():
    assert sum(sent(Parallelism(8, "ddp")).values()) == 2 * PSI * LAST
    assert sum(sent(zero(0)).values()) == 2 * PSI * LAST
    assert sum(sent(zero(1)).values()) == 2 * PSI * LAST


def test_stage_two_reduces_and_stage_three_gathers_for_every_micro_batch():
    assert sent(zero(2)) == {
        "gradients, reduce-scatter": 4 * PSI * LAST,
        "updated weights, all-gather": PSI * LAST,
    }
    once = Batch(2, 128)
    assert sum(sent(zero(3), batch=once).values()) == 3 * PSI * LAST
    assert sum(sent(zero(3)).values()) == 4 * 3 * PSI * LAST


def test_fsdp_reduces_once_unless_it_is_told_to():
    full = sent(Parallelism(8, "fsdp"))
    assert full == {"weights, all-gather": 8 * PSI * LAST, "gradients, reduce-scatter": PSI * LAST}
    each = sent(Parallelism(8, "fsdp", sync_each_batch=True))
    assert each["gradients, reduce-scatter"] == 4 * PSI * LAST
    assert sent(Parallelism(8, "fsdp", fsdp_sharding="grad-op"))["weights, all-gather"] == 4 * PSI * LAST
    assert sent(Parallelism(8, "fsdp", fsdp_sharding="none")) == {"gradients, all-reduce": 2 * PSI * LAST}


def test_groups_of_ranks_reduce_their_shares_with_one_another():
    found = sent(Parallelism(8, "fsdp", replicas=2))
    assert found["gradients, all-reduce"] == 2 * (PSI // 4) // 2
    assert found["gradients, reduce-scatter"] == PSI * 3 // 4


def test_float32_gradients_and_quantized_weights_have_their_own_widths():
    wide = sent(Parallelism(8, "fsdp", fsdp_reduce_dtype="float32"))
    assert wide["gradients, reduce-scatter"] == 2 * PSI * LAST
    autocast = sent(zero(1), precision=Precision("float32", "bfloat16"))
    assert sum(autocast.values()) == 2 * PSI * LAST
    packed = sent(Parallelism(8, "fsdp"), quantization=Quantization(), batch=Batch(2, 128))
    assert packed["weights, all-gather"] == 2 * (8 * 2 * PARAMETERS) * LAST


SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 8,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "experts": 8,
    "experts_per_token": 2,
}
HIDDEN = 2 * 128 * 64 * 2
"""Bytes of a layer's output for a micro batch."""


def megatron(world: int = 8, **degrees) -> dict[str, int]:
    spread = Parallelism(world, "megatron", megatron=Megatron(**degrees))
    return sent(spread, model=Model("m", "gpt2", {"megatron": SIZES}))


@pytest.mark.parametrize(
    ("degrees", "name", "expected"),
    [
        ({"tensor": 8}, "matrices, all-reduce", 4 * 8 * 8 * HIDDEN * LAST),
        ({"tensor": 8, "recompute": "full"}, "matrices, all-reduce", 4 * 8 * 12 * HIDDEN * LAST),
        ({"tensor": 8, "sequence": True}, "matrices, all-gather and reduce-scatter", 4 * 8 * 10 * HIDDEN * LAST),
        ({"pipeline": 8}, "stages, point to point", 4 * 2 * HIDDEN),
        ({"pipeline": 4, "chunks": 2}, "stages, point to point", 4 * 2 * 2 * HIDDEN),
        ({"context": 8}, "ring attention", 4 * 8 * 3 * 7 * (2 * 2 * 16 * 4 * 16 * 2)),
        ({"expert": 8}, "experts, all-to-all", 4 * 8 * 4 * 2 * HIDDEN * LAST),
        ({}, "gradients, all-reduce", 2 * 2 * PSI * LAST),
        ({"wide_gradients": False}, "gradients, all-reduce", 2 * PSI * LAST),
        ({"distributed_optimizer": True}, "gradients, reduce-scatter", 2 * PSI * LAST),
        ({"distributed_optimizer": True}, "updated weights, all-gather", PSI * LAST),
    ],
)
def test_ranks_of_megatron_send_what_their_kind_of_parallelism_needs(degrees, name, expected):
    assert megatron(**degrees)[name] == expected


def test_ranks_that_share_a_model_reduce_no_gradients_with_one_another():
    assert "gradients, all-reduce" not in megatron(tensor=4, pipeline=2)
    assert "gradients, all-reduce" in megatron(context=8)


HEADS = {"num_attention_heads": 8, "num_key_value_heads": 2, "num_hidden_layers": 3, "hidden_size": 32}


@pytest.mark.parametrize(
    ("form", "name", "elements"),
    [
        ("ulysses", "attention, all-to-all", 2 * 2 * (8 + 4) * 3 // 4),  # there and back, keys once for each rank
        ("xtuner", "attention, all-to-all", 2 * 2 * (8 + 8) * 3 // 4),  # keys for every head of queries
        ("ring", "ring attention", 3 * 3 * 2 * 2),
    ],
)
def test_shared_sequences_cross_the_ranks_by_heads_or_go_round(form, name, elements):
    spread = Parallelism(8, "fsdp", sequence=SharedSequence(4, form))
    found = sent(spread, model=Model("m", "llama", HEADS))[name]
    assert found == elements * 4 * 3 * (2 * 128 // 4) * 4 * 2  # micro batches, layers, tokens, size of a head, bytes
