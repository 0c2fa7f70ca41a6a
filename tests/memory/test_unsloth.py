"""Unsloth's layers and loss: what they keep less than those of transformers, and what they keep besides."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from vramlint.job import (
    Adapter,
    Batch,
    Checkpointing,
    Job,
    Model,
    Objective,
    Optimizer,
    Precision,
    Quantization,
)
from vramlint.memory import simulate
from vramlint.memory.ops.unsloth_head import parts

GIB = 1 << 30
CONFIG = {
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 8192,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
    "head_dim": 64,
}
JOB = Job(
    model=Model("llama", "llama", CONFIG),
    precision=Precision("bfloat16", "bfloat16"),
    optimizer=Optimizer("adamw_bnb_8bit"),
    batch=Batch(2, 2048, 4),
    adapter=Adapter(16, target_modules="all-linear"),
    quantization=Quantization("nf4", double_quantization=True, compute_dtype="bfloat16"),
    checkpointing=Checkpointing("reentrant", offload=True),
    objective=Objective(loss="unsloth", sft=True),
    kernels=("unsloth",),
)


def amounts(job: Job) -> dict[str, int]:
    return {amount.name: amount.bytes for amount in simulate(job).components}


def test_weights_and_states_are_those_of_the_plain_model() -> None:
    ours, plain = simulate(JOB), simulate(replace(JOB, kernels=(), objective=Objective(sft=True)))
    assert ours.method == "simulated"
    assert (ours.parameters, ours.gradients, ours.optimizer_states) == (
        plain.parameters,
        plain.gradients,
        plain.optimizer_states,
    )
    assert ours.allocated < 0.4 * plain.allocated


def test_a_layer_in_backward_holds_its_input_and_both_inner_products() -> None:
    """No logits in the way: short vocabulary. At the peak of an MLP's backward are x, e, g, the gradient of h, and what
    came; and the unpacked weight of 8192 x 2048 with its scales."""
    job = replace(JOB, model=replace(JOB.model, config={**CONFIG, "vocab_size": 1024}))
    job = replace(job, checkpointing=Checkpointing("reentrant", offload=False))
    estimate = simulate(job)
    assert estimate.peak_phase == "backward"
    tokens = 2 * 2048
    alive = {tensor.name: tensor.bytes for tensor in estimate.tensors}
    assert alive["linear bfloat16 [2, 2048, 8192]"] == 2 * 2 * tokens * 8192
    assert alive["dequantize bfloat16 [8192, 2048]"] == 2 * 2048 * 8192


def test_buffers_are_the_tables_of_all_positions_and_one_unpacked_weight() -> None:
    tables, weight, scales = 2 * 2 * 131072 * 64, 2 * 8192 * 2048, 4 * 8192 * 2048 // 64
    assert amounts(JOB)["buffers"] == pytest.approx(tables + weight + scales, rel=0.001)


def test_before_tables_were_shared_each_layer_had_some() -> None:
    old = replace(JOB, libraries=replace(JOB.libraries, transformers=(4, 46, 0)))
    more = (
        simulate(old).allocated
        - simulate(replace(JOB, libraries=replace(JOB.libraries, transformers=(4, 48, 0)))).allocated
    )
    assert more == 2 * 2 * 64 * (16 * 32768 - 131072)


def test_short_inputs_stay_on_the_device() -> None:
    """512 tokens of 2048 are 2 MiB."""
    offloads = replace(JOB, batch=Batch(1, 512))
    stays = replace(offloads, checkpointing=Checkpointing("reentrant", offload=False))
    assert simulate(offloads).allocated == simulate(stays).allocated
    longer = replace(offloads, batch=Batch(1, 1024)), replace(stays, batch=Batch(1, 1024))
    assert simulate(longer[0]).saved_activations < simulate(longer[1]).saved_activations


@pytest.mark.parametrize(
    ("tokens", "vocabulary", "free", "expected"),
    [
        (4096, 128256, 0, 1),  # 1.96 GiB of 4
        (8192, 152064, 0, 4),  # 4.6 GiB
        (65536, 152064, 0, 12),  # 37 GiB: 9.3 parts, by fours
        (4096, 128256, 2 * GIB, 4),  # half of 2 GiB
    ],
)
def test_parts_of_the_loss(tokens: int, vocabulary: int, free: int, expected: int) -> None:
    assert parts(tokens, vocabulary, free) == expected


def test_dropout_takes_pefts_own_layers() -> None:
    assert JOB.adapter is not None
    dropped = replace(JOB, adapter=replace(JOB.adapter, dropout=0.1))
    assert simulate(dropped).method == "simulated"
    assert simulate(dropped).allocated >= simulate(JOB).allocated


def test_other_models_are_refused() -> None:
    other = replace(JOB, model=replace(JOB.model, model_type="cohere"))
    assert simulate(other).method == "bounded"
