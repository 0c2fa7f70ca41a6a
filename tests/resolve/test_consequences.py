from __future__ import annotations

import pytest

from tests.resolve.making import LLAMA, run, script, unknown, written
from vramlint.facts import Candidate, Fact, FactValue, Origin
from vramlint.memory import simulate
from vramlint.resolve.run import Run
from vramlint.values import Entry, Scalar, Table

KNOWN = (written("micro_batch_size", 1), written("sequence_length", 512))
LORA = (written("tuning", "lora"), written("lora_r", 8))


def says(found: Run, name: str) -> FactValue:
    fact = found.get(name)
    assert fact is not None, name
    assert fact.known
    return fact.value


@pytest.mark.parametrize(
    ("facts", "dtype"),
    [
        ((written("load_dtype", "bfloat16"),), "bfloat16"),
        ((written("load_dtype", "float32"), written("bf16", True)), "float32"),
        ((*LORA, written("load_dtype", "bfloat16")), "float32"),
        ((*LORA, written("load_dtype", "bfloat16"), written("adapter_cast", False)), "bfloat16"),
        ((*LORA, written("load_dtype", "float16"), written("quantization_bits", 4)), "float32"),
        ((written("load_dtype", "bfloat16"), written("trainable_dtype", "float32")), "float32"),
    ],
)
def test_the_dtype_of_what_trains(facts: tuple[Fact, ...], dtype: str) -> None:
    assert says(run(script(LLAMA, *KNOWN, *facts)), "trainable_dtype") == dtype


def test_the_reference_of_a_preference_objective() -> None:
    dpo = written("objective", "dpo")
    assert says(run(script(LLAMA, *KNOWN, dpo)), "reference_model") == "meta-llama/Llama-2-7b-hf"
    assert says(run(script(LLAMA, *KNOWN, dpo, *LORA)), "reference_model") == "adapter off"
    assert run(script(LLAMA, *KNOWN)).get("reference_model") is None


def test_logits_of_all_tokens() -> None:
    assert says(run(script(LLAMA, *KNOWN)), "full_logits") is True
    assert says(run(script(LLAMA, *KNOWN, written("fused_loss", True))), "full_logits") is False


def test_segments_that_grow() -> None:
    settings = written("allocator_settings", "expandable_segments:True")
    assert says(run(script(LLAMA, *KNOWN, settings)), "expandable_segments") is True
    assert run(script(LLAMA, *KNOWN)).get("expandable_segments") is None


COUNTED = Fact("parameters", (Candidate(1_000_000),), Origin.DERIVED, reason="counted")
OWN = (
    unknown("model", "the files define the model themselves"),
    COUNTED,
    written("loop", "script"),
    written("tuning", "full"),
    written("optimizer", "adamw_torch"),
    written("objective", "pretrain"),
)


def test_a_counted_model_is_bounded_by_its_states() -> None:
    found = run(script(*OWN, *KNOWN))
    (job,) = found.jobs
    assert job.model.parameter_count == 1_000_000
    assert job.precision.weights == "float32"
    estimate = simulate(job)
    assert estimate.method == "bounded"
    assert estimate.allocated == 16_000_000  # weights, gradients, two moments
    assert found.get("attention_implementation") is None


def test_a_model_that_cannot_be_counted_has_no_job() -> None:
    found = run(script(*(fact for fact in OWN if fact is not COUNTED), unknown("parameters", "a width"), *KNOWN))
    assert found.jobs == ()
    assert "model" in found.unresolved


def test_keys_of_the_config_that_the_script_sets() -> None:
    overrides = Table((Entry("num_hidden_layers", None, Scalar(2)),))
    model = written("model", "gpt2", key="config")
    (job,) = run(
        script(model, *KNOWN, written("load_dtype", "float32"), tables=(("config-overrides", overrides),))
    ).jobs
    assert job.model.config["n_layer"] == 2
    assert job.model.parameter_count is None


def test_embeddings_that_are_resized() -> None:
    facts = (LLAMA, *KNOWN, written("load_dtype", "bfloat16"))
    (job,) = run(script(*facts, written("vocabulary_size", 32_064, key="resize_token_embeddings"))).jobs
    assert job.model.config["vocab_size"] == 32_064
    (same,) = run(script(*facts, written("vocabulary_size", 32_064, key="vocab_size"))).jobs
    assert same.model.config["vocab_size"] == 32_000
