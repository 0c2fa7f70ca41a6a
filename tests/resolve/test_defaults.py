"""Library defaults by version, and what follows from other facts."""

from __future__ import annotations

import pytest

from tests.resolve.making import LLAMA, run, script, unknown, written
from vramlint.facts import Fact, Origin
from vramlint.job import Checkpointing
from vramlint.values import Table

SFT = (("SFTConfig", Table(())),)


def test_trainer_defaults_name_library_and_version() -> None:
    fact = run(script(LLAMA)).get("micro_batch_size")
    assert fact is not None
    assert (fact.value, fact.origin, fact.library) == (8, Origin.DEFAULT, "transformers 5.23.0")


@pytest.mark.parametrize(
    ("transformers", "torch", "optimizer"),
    [
        ("4.36.2", "2.13.0", "adamw_torch"),
        ("5.23.0", "2.13.0", "adamw_torch_fused"),
        ("4.57.6", "2.7.1", "adamw_torch"),
    ],
)
def test_default_optimizer_by_versions(transformers: str, torch: str, optimizer: str) -> None:
    found = run(script(LLAMA), transformers=transformers, torch=torch).get("optimizer")
    assert found is not None
    assert found.value == optimizer


def test_load_dtype_is_float32_before_transformers_5() -> None:
    fact = run(script(LLAMA), transformers="4.57.6").get("load_dtype")
    assert fact is not None
    assert (fact.value, fact.origin) == ("float32", Origin.DEFAULT)


def test_quantized_load_dtype_is_float16_before_transformers_5() -> None:
    found = run(script(LLAMA, written("quantization_bits", 4), written("tuning", "lora")), transformers="4.57.6")
    dtype, tuning = found.get("load_dtype"), found.get("tuning")
    assert dtype is not None
    assert tuning is not None
    assert (dtype.value, tuning.value) == ("float16", "qlora")


def test_load_dtype_follows_the_checkpoint_from_transformers_5() -> None:
    found = run(script(LLAMA)).get("load_dtype")
    assert found is not None
    if found.origin is Origin.DERIVED:
        assert found.value in ("float16", "bfloat16", "float32")
    else:
        assert {candidate.value for candidate in found.candidates} >= {"float32"}
        assert "no source states" in found.reason


def test_string_model_of_trl_is_loaded_in_float32() -> None:
    model = written("model", "meta-llama/Llama-2-7b-hf", key="model")
    found = run(script(model, tables=SFT)).get("load_dtype")
    assert found is not None
    assert (found.value, found.library) == ("float32", "trl 1.16.0")


@pytest.mark.parametrize(("trl", "on"), [("0.18.0", False), ("1.16.0", True)])
def test_trl_turns_bf16_and_checkpointing_on(trl: str, on: bool) -> None:
    found = run(script(LLAMA, tables=SFT), trl=trl)
    bf16, checkpointing = found.get("bf16"), found.get("activation_checkpointing")
    assert bf16 is not None
    assert checkpointing is not None
    assert (bf16.value, checkpointing.value) == (on, on)


def test_trl_leaves_bf16_off_beside_fp16() -> None:
    precision = run(script(LLAMA, written("fp16", True), tables=SFT)).get("precision")
    assert precision is not None
    assert precision.value == "fp16-mixed"


@pytest.mark.parametrize(("transformers", "mode"), [("4.57.6", "reentrant"), ("5.23.0", "nonreentrant")])
def test_reentrant_default_by_version(transformers: str, mode: str) -> None:
    found = run(script(LLAMA, written("activation_checkpointing", True)), transformers=transformers)
    assert {job.checkpointing for job in found.jobs} == {Checkpointing(mode)}


@pytest.mark.parametrize(
    ("key", "within"), [("apply_activation_checkpointing", True), ("gradient_checkpointing_enable", False)]
)
def test_torchs_own_wrapper_checkpoints_inside_of_fsdps_units(key: str, within: bool) -> None:
    found = run(script(LLAMA, written("activation_checkpointing", True, key=key)))
    assert {job.checkpointing.within_units for job in found.jobs} == {within}


def test_precision_of_bf16_weights_without_autocast() -> None:
    found = run(script(LLAMA, written("load_dtype", "bfloat16")))
    precision = found.get("precision")
    assert precision is not None
    assert precision.value == "bf16-pure"
    assert {job.precision.autocast for job in found.jobs} == {None}


def test_unknown_optimizer_is_assumed_to_be_the_default() -> None:
    found = run(script(LLAMA, unknown("optimizer"))).get("optimizer")
    assert found is not None
    assert (found.value, found.origin) == ("adamw_torch_fused", Origin.ASSUMED)
    assert "argument of main" in found.reason


@pytest.mark.parametrize(
    ("trl", "facts", "loss"),
    [
        ("0.24.0", (), "causal-lm"),
        ("1.6.0", (), "causal-lm"),
        ("1.7.1", (), "chunked"),
        ("1.7.1", (written("loss_type", "nll"),), "causal-lm"),
        ("1.6.0", (written("loss_type", "chunked_nll"),), "chunked"),
        ("0.24.0", (written("loss_type", "dft"),), "dft"),
        ("1.7.1", (written("fused_loss", True),), "fused"),
        ("1.15.0", (written("loss_type", "dft"),), "chunked"),
        ("1.16.0", (written("fused_loss", True),), "chunked"),
    ],
)
def test_the_loss_of_the_sft_trainer_by_release(trl: str, facts: tuple[Fact, ...], loss: str) -> None:
    found = run(script(LLAMA, *facts, tables=SFT), trl=trl)

    assert {job.objective.loss for job in found.jobs} == {loss}
    assert all(job.objective.sft for job in found.jobs)


@pytest.mark.parametrize(
    ("facts", "kernels", "loss"),
    [
        ((written("fused_loss", True),), ("rope", "rms_norm", "swiglu", "fused_linear_cross_entropy"), "fused"),
        (
            (written("fused_loss", True), written("liger_fused_head", False), written("liger_rope", False)),
            ("rms_norm", "swiglu"),
            "causal-lm",
        ),
        (
            (written("liger", True), written("liger_fused_head", False), written("liger_cross_entropy", True)),
            ("rope", "rms_norm", "swiglu", "cross_entropy"),
            "liger-cross-entropy",
        ),
        ((written("fused_loss", False),), (), "causal-lm"),
    ],
)
def test_ligers_kernels_and_their_options(facts: tuple[Fact, ...], kernels: tuple[str, ...], loss: str) -> None:
    (job,) = {(job.kernels, job.objective.loss) for job in run(script(LLAMA, *facts)).jobs}

    assert job == (kernels, loss)


@pytest.mark.parametrize(
    ("trl", "facts", "padding_free"),
    [
        ("0.18.2", (), False),
        ("0.19.1", (), True),
        ("1.16.0", (), True),
        ("1.16.0", (written("packing_strategy", "wrapped"),), False),
        ("1.16.0", (written("packing_strategy", "bfd_split"),), True),
    ],
)
def test_packed_rows_lie_end_to_end(trl: str, facts: tuple[Fact, ...], padding_free: bool) -> None:
    found = run(script(LLAMA, written("packing", True), *facts, tables=SFT), trl=trl)

    assert {job.batch.padding_free for job in found.jobs} == {padding_free}
    assert all(job.batch.packing for job in found.jobs)


def test_trls_activation_offloading_reaches_the_job() -> None:
    found = run(script(LLAMA, written("activation_offloading", True), tables=SFT))

    assert all(job.offloads_activations for job in found.jobs)


def test_a_length_that_only_the_tokenizer_knows() -> None:
    bert = written("model", "google-bert/bert-base-uncased", key="pretrained_model_name_or_path")
    own = Fact("sequence_length", (), Origin.UNKNOWN, "padding", "runtime", reason="the tokenizer fills samples")
    known = (written("micro_batch_size", 1), written("load_dtype", "float32"), written("objective", "seq-cls"))
    assert {job.batch.sequence_length for job in run(script(bert, *known, own)).jobs} == {512}
    assert len({job.batch.sequence_length for job in run(script(LLAMA, *known[:2], own)).jobs}) > 1
