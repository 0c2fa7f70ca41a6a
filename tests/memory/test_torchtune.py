"""torchtune's own decoder, losses and NF4 weights."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from vramlint.catalog.torchtune import builders
from vramlint.job import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Job,
    Model,
    Objective,
    Optimizer,
    Parallelism,
    Precision,
    Quantization,
    SharedSequence,
)
from vramlint.memory.ops.head_chunks import LOGITS, WITH_HEAD
from vramlint.memory.simulate import simulate
from vramlint.surfaces.frameworks.torchtune_models import network
from vramlint.surfaces.model_config import config_values

GIB = 2**30
LORA = Adapter(8, target_modules=("q_proj", "v_proj", "output_proj", "mlp"), from_peft=False)
NF4 = Quantization("nf4-tensor", double_quantization=True, compute_dtype="bfloat16")


def job(builder: str, loss: str = WITH_HEAD, **kwargs: Any) -> Job:
    table = network(builders()[builder], {})
    assert table is not None
    plain = Job(
        Model(builder, "torchtune", config_values(table)),
        precision=Precision("bfloat16"),
        batch=Batch(2, 512),
        objective=Objective(loss=loss, loop="plain", max_grad_norm=0.0),
    )
    return replace(plain, **kwargs)


@pytest.mark.parametrize(
    ("builder", "parameters"),
    [
        ("llama2_7b", 6_738_415_616),
        ("llama3_8b", 8_030_261_248),
        ("llama3_2_1b", 1_235_814_400),
        ("mistral_7b", 7_241_732_096),
        ("phi3_mini", 3_821_079_552),
        ("phi4_14b", 14_659_507_200),
        ("gemma_2b", 2_506_172_416),
        ("gemma2_9b", 9_241_705_984),
        ("qwen2_5_0_5b", 494_032_768),
        ("qwen2_5_7b_base", 7_615_616_512),
        ("qwen3_8b_instruct", 8_190_735_360),
        ("smollm2_135m", 134_515_008),
    ],
)
def test_builders_make_models_of_the_published_sizes(builder: str, parameters: int) -> None:
    found = simulate(job(builder), reserved=False)
    assert (found.method, found.total_parameters) == ("simulated", parameters)


def test_a_packed_full_run_without_compile_is_near_the_published_figure() -> None:
    """README.md of November 2024: Llama 3.2 3B, batch 2, packed to 4096, 60.0 GiB active."""
    run = job("llama3_2_3b", "causal-lm", optimizer=Optimizer("adamw_torch"), batch=Batch(2, 4096, packing=True))
    assert simulate(run, reserved=False).allocated / GIB == pytest.approx(60.0, rel=0.03)


def test_chunks_of_tokens_never_hold_whole_float32_logits_beside_their_probabilities() -> None:
    run = job("llama3_1_8b", adapter=LORA, batch=Batch(2, 4096), checkpointing=Checkpointing("nonreentrant"))
    whole, narrow, fused = (
        simulate(replace(run, objective=replace(run.objective, loss=loss)), reserved=False).allocated
        for loss in ("causal-lm", LOGITS, WITH_HEAD)
    )
    logits = 2 * 4096 * 128_256 * 2
    assert whole > narrow > fused
    assert narrow - fused > logits * 0.6  # the bfloat16 logits of all chunks, but the one in work


def test_every_layer_with_adapters_has_rotary_tables_of_its_own() -> None:
    def buffers(builder: str, adapter: Adapter | None) -> int:
        found = simulate(job(builder, adapter=adapter), reserved=False)
        return sum(part.bytes for part in found.components if part.name == "buffers")

    tables = 4 * 131_072 * 128 * 2
    assert buffers("qwen2_5_7b_base", None) == pytest.approx(tables, rel=0.01)
    assert buffers("qwen2_5_7b_base", LORA) == pytest.approx(28 * tables, rel=0.01)
    assert buffers("llama3_1_8b", LORA) == buffers("llama3_1_8b", None)


def test_adapters_have_the_dtype_of_the_weights() -> None:
    found = simulate(job("llama3_8b", adapter=LORA), reserved=False)
    assert found.gradients == 2 * found.trainable_parameters


def test_unpacking_nf4_holds_64_bit_codes_of_the_whole_weight() -> None:
    run = job("llama3_8b", adapter=LORA, quantization=NF4, checkpointing=Checkpointing("nonreentrant"))
    small = simulate(replace(run, batch=Batch(1, 8)), reserved=False)
    weight = 4096 * 14336
    held = small.allocated - small.parameters
    assert held > 14 * weight  # codes 8, values 2, scaled ones 2, the result 2
    assert small.parameters == pytest.approx(2 * 2 * 128_256 * 4096 + 0.516 * 6.98e9, rel=0.02)


def test_an_optimizer_in_backward_keeps_no_gradients() -> None:
    usual, hooked = (
        simulate(job("llama3_2_1b", optimizer=Optimizer("adamw_torch_fused", arguments)), reserved=False)
        for arguments in ({}, {"layerwise": True})
    )
    assert usual.gradients - hooked.gradients == 2 * 1_235_814_400


def test_offloaded_checkpoints_leave_the_device() -> None:
    kept, offloaded = (
        simulate(
            job("llama3_8b", batch=Batch(2, 4096), checkpointing=Checkpointing("nonreentrant", offload=offload)),
            reserved=False,
        ).saved_activations
        for offload in (False, True)
    )
    assert kept - offloaded > 0.9 * 32 * 2 * 4096 * 4096 * 2


@pytest.mark.parametrize(
    ("published", "kwargs"),
    [
        (42.9, {}),
        (24.9, {"checkpointing": Checkpointing("nonreentrant")}),
        (
            23.1,
            {
                "checkpointing": Checkpointing("nonreentrant"),
                "optimizer": Optimizer("adamw_torch_fused", {"layerwise": True}),
            },
        ),
        (
            21.8,
            {
                "checkpointing": Checkpointing("nonreentrant", offload=True),
                "optimizer": Optimizer("adamw_torch_fused", {"layerwise": True}),
            },
        ),
    ],
)
def test_compiled_runs_are_near_the_published_figures(published: float, kwargs: dict[str, Any]) -> None:
    """README.md of November 2024: the same run with compile and chunked logits, then one technique after the other."""
    run = job("llama3_2_3b", LOGITS, batch=Batch(2, 4096, packing=True), compiled=True)
    assert simulate(replace(run, **kwargs), reserved=False).allocated / GIB == pytest.approx(published, rel=0.03)


@pytest.mark.parametrize(("published", "quantization"), [(8.5, None), (4.6, NF4)])
def test_compiled_adapters_are_near_the_published_figures(published: float, quantization: Quantization | None) -> None:
    run = job(
        "llama3_2_3b",
        LOGITS,
        batch=Batch(2, 4096, packing=True),
        compiled=True,
        adapter=replace(LORA, r=64),
        quantization=quantization,
        checkpointing=Checkpointing("nonreentrant", offload=True),
    )
    assert simulate(run, reserved=False).allocated / GIB == pytest.approx(published, rel=0.08)


def shared(ranks: int, world: int, batch: Batch, sizes: tuple[int, ...], **kwargs: Any) -> Job:
    """Decoders of (vocabulary, layers, heads, heads of keys, width, width of the MLP) whose ranks share sequences."""
    names = ("vocab_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_size")
    config: dict[str, str | int] = dict(zip((*names, "intermediate_size"), sizes, strict=True))
    config |= {"component": "llama3", "max_position_embeddings": batch.sequence_length}
    spread = Parallelism(world, "fsdp", fsdp_version=2, sync_each_batch=True, sequence=SharedSequence(ranks, "ring"))
    plain = Job(
        Model("m", "torchtune", config),
        precision=Precision("bfloat16"),
        batch=batch,
        parallelism=replace(spread, fsdp_by_layers_alone=True),
        objective=Objective(loss="causal-lm", loop="plain", max_grad_norm=1.0),
        optimizer=Optimizer("adamw_torch_fused"),
    )
    return replace(plain, **kwargs)


REPEATED = shared(
    4, 8, Batch(1, 32768), (2048, 4, 32, 8, 4096, 4096), checkpointing=Checkpointing("nonreentrant")
)  # fmt: skip
ALIKE = shared(2, 4, Batch(2, 8192), (2048, 3, 16, 16, 2048, 2048))


@pytest.mark.parametrize(
    ("wanted", "forward", "backward"), [(REPEATED, 2118.8, 3804.8), (ALIKE, 2104.2, 2568.7)], ids=["repeated", "alike"]
)
def test_shared_sequences_are_those_of_torchtunes_own_code(wanted: Job, forward: float, backward: float) -> None:
    """MiB of the steady step of torchtune 0.7's llama3, shard_model and get_context_parallel_manager over torch 2.13.

    They ran over fake tensors, counted storage by storage, as `bench.sharding.titan` counts torchtitan's.
    """
    peaks = {phase.phase: phase.allocated / 2**20 for phase in simulate(wanted, reserved=False).phases}
    assert peaks["forward"] == pytest.approx(forward, rel=0.002)
    assert peaks["backward"] == pytest.approx(backward, rel=0.001)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (replace(ALIKE, compiled=True), "compiled layers"),
        (replace(ALIKE, attention=Attention("flex_attention")), "not torch's operator"),
        (replace(ALIKE, model=replace(ALIKE.model, config={**ALIKE.model.config, "component": "gemma2"})), "operator"),
    ],
)
def test_attention_that_no_context_dispatches_is_refused(wanted: Job, reason: str) -> None:
    assert reason in simulate(wanted, reserved=False).why
