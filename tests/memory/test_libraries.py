"""What releases of the libraries do differently."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.memory.runs import LLAMA, llama
from vramlint.catalog.litgpt_models import completed, litgpt_model
from vramlint.estimate import Estimate
from vramlint.job import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    ConfigValue,
    Job,
    Libraries,
    Model,
    Objective,
    Optimizer,
    Precision,
    Quantization,
)
from vramlint.memory import simulate
from vramlint.memory.ops.four_bit import FourBit
from vramlint.memory.quantization import packed_of

SIZE, LENGTH = 2, 128
LINEAR = 3 * LLAMA["hidden_size"] ** 2 + 3 * LLAMA["hidden_size"] * LLAMA["intermediate_size"]
"""Weights of the linear layers of one layer; keys and values have half the heads."""
LAYERS = LLAMA["num_hidden_layers"]
WIDE = {"vocab_size": 100_000, "tie_word_embeddings": True, "hidden_size": 64}
LOGITS = SIZE * LENGTH * LLAMA["vocab_size"]


def adapted(kind: str, **overrides: Any) -> Job:
    return llama(
        None,
        **{
            "precision": Precision("bfloat16"),
            "adapter": Adapter(8, 0.0, "all-linear"),
            "quantization": Quantization(kind, compute_dtype="bfloat16"),
            **overrides,
        },
    )


def part(estimate: Estimate, name: str) -> int:
    return next((amount.bytes for amount in estimate.components if amount.name == name), 0)


def phase(estimate: Estimate, name: str) -> int:
    return next(peak.allocated for peak in estimate.phases if peak.phase == name)


def allocated(job: Job) -> int:
    return simulate(job, reserved=False).allocated


def test_the_loss_before_4_49_shifts_a_copy_of_float_logits() -> None:
    before, after = (
        simulate(llama(precision=Precision("bfloat16"), libraries=Libraries(transformers=version)), reserved=False)
        for version in ((4, 48, 1), (4, 57, 6))
    )

    shifted = 4 * LOGITS * (LENGTH - 1) // LENGTH
    assert phase(before, "forward") - phase(after, "forward") == pytest.approx(shifted, rel=0.05)


def test_a_loss_in_place_holds_one_copy_of_the_logits() -> None:
    """Against log-probabilities and two gradients of their size, in float32."""
    objectives = (Objective(loss="causal-lm"), Objective(loss="in-place"))
    usual, in_place = (
        simulate(llama(WIDE, precision=Precision("bfloat16"), objective=objective), reserved=False)
        for objective in objectives
    )
    logits = SIZE * LENGTH * WIDE["vocab_size"]

    assert usual.allocated - in_place.allocated > 2 * 4 * logits
    assert phase(in_place, "backward") < phase(in_place, "optimizer") + 3 * 2 * logits


def test_cut_cross_entropy_makes_no_logits() -> None:
    objectives = (Objective(loss="in-place"), Objective(loss="cut"))
    in_place, cut = (
        simulate(llama(WIDE, precision=Precision("bfloat16"), objective=objective), reserved=False)
        for objective in objectives
    )

    assert phase(in_place, "forward") - phase(cut, "forward") > 1.9 * SIZE * LENGTH * WIDE["vocab_size"]
    assert all("100000" not in tensor.name or str(SIZE * LENGTH) not in tensor.name for tensor in cut.tensors)


def test_bitsandbytes_before_0_43_2_keeps_the_inputs_of_products() -> None:
    before, after = (
        simulate(adapted("nf4", libraries=Libraries(bitsandbytes=version)), reserved=False)
        for version in ((0, 43, 1), (0, 43, 3))
    )

    assert phase(before, "backward") > phase(after, "backward")


def test_gptq_packs_weights_with_zeros_scales_and_groups() -> None:
    four, eight = (
        simulate(adapted("gptq", quantization=Quantization("gptq", bits=bits)), reserved=False) for bits in (4, 8)
    )

    assert eight.parameters - four.parameters == pytest.approx(LAYERS * LINEAR * 0.5, rel=0.001)
    assert part(four, "quantization constants") > LAYERS * LINEAR * 2.5 / 128


def test_flash_attention_casts_float32_queries() -> None:
    """Under prepare_model_for_kbit_training the hidden states are float32, also without autocast."""
    quantization = Quantization("nf4", compute_dtype="bfloat16", prepared_for_kbit=True)
    flash, sdpa = (
        allocated(
            adapted(
                "nf4",
                quantization=quantization,
                attention=Attention(name),
                batch=Batch(1, 2048),
            )
        )
        for name in ("flash_attention_2", "eager")
    )

    assert sdpa - flash > 2048 * 2048 * LLAMA["num_attention_heads"] * 4


def test_litgpt_takes_the_loss_in_chunks() -> None:
    config: dict[str, ConfigValue] = {
        "n_embd": 256,
        "intermediate_size": 704,
        "n_layer": 4,
        "n_head": 8,
        "vocab_size": 32000,
        "padding_multiple": 64,
        "norm_class_name": "RMSNorm",
        "mlp_class_name": "LLaMAMLP",
        "rotary_percentage": 1.0,
        "bias": False,
        "parallel_residual": False,
    }
    job = Job(
        Model("small", "litgpt", completed(config)),
        precision=Precision("bfloat16"),
        optimizer=Optimizer("sgd"),
        batch=Batch(1, 2048),
        checkpointing=Checkpointing("none"),
        adapter=Adapter(8, 0.0, ("query", "value")),
    )
    found = simulate(job, reserved=False)
    in_float32 = 4 * 2048 * 32000

    assert found.method == "simulated"
    # the logits and what the loss keeps of them, but gradients of a few chunks only
    assert 2 * in_float32 < found.allocated < 2.75 * in_float32


def test_since_bitsandbytes_0_50_the_forward_dequantizes_to_the_compute_dtype_at_once() -> None:
    model = llama({"vocab_size": 64, "intermediate_size": 8192}).model
    before, after = (
        phase(
            simulate(
                adapted(
                    "nf4",
                    model=model,
                    batch=Batch(1, 16),
                    adapter=Adapter(8, 0.0, ("q_proj",)),
                    quantization=Quantization("nf4", compute_dtype="float32"),
                    libraries=Libraries(bitsandbytes=version),
                ),
                reserved=False,
            ),
            "forward",
        )
        for version in ((0, 49, 2), (0, 50, 0))
    )

    # the dense bfloat16 weight beside its float32 cast, less what the product needs after it
    assert 0 < before - after <= 2 * 8192 * LLAMA["hidden_size"]


def test_only_nested_scales_are_unpacked() -> None:
    nested, plain = (
        packed_of(Quantization("nf4", double_quantization=double), "bfloat16", Libraries()) for double in (True, False)
    )

    assert isinstance(plain, FourBit)
    assert nested == replace(plain, nested=True)


def test_litgpt_trains_the_stable_embedding_of_a_quantized_base_without_an_optimizer() -> None:
    arguments = litgpt_model("pythia-160m")
    assert arguments is not None
    job = Job(
        Model("pythia-160m", "litgpt", arguments),
        precision=Precision("bfloat16"),
        optimizer=Optimizer("paged_adamw_32bit"),
        batch=Batch(1, 64),
        adapter=Adapter(8, 0.0, ("query", "value"), from_peft=False),
        quantization=Quantization("nf4", compute_dtype="bfloat16", source_dtype="float16"),
        objective=Objective(loop="script", max_grad_norm=0),
    )
    stable = replace(job, model=replace(job.model, config={**arguments, "stable_embedding": True}))
    weight = 50304 * 768 * 2

    more = simulate(stable, reserved=False).allocated - simulate(job, reserved=False).allocated

    # the gradient of the step before, which nobody clears; the peak is the head's, whose weight is dequantized
    assert weight <= more < 1.1 * weight
