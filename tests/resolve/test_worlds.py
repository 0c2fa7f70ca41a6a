"""What is open gives several jobs; what is correlated gives no impossible ones."""

from __future__ import annotations

import pytest

from tests.resolve.making import LLAMA, run, script, unknown, written
from vramlint.facts import Origin
from vramlint.resolve.jobs import MOST_JOBS

KNOWN = (written("micro_batch_size", 1), written("sequence_length", 512), written("load_dtype", "float32"))


def test_everything_known_gives_one_job() -> None:
    found = run(script(LLAMA, *KNOWN))
    (job,) = found.jobs
    assert (job.batch.micro_batch_size, job.batch.sequence_length) == (1, 512)
    assert job.model.model_type == "llama"
    assert job.model.config["hidden_size"] == 4096
    assert (found.unresolved, found.open_facts) == ((), ())


def test_alternatives_give_both() -> None:
    found = run(script(LLAMA, written("bf16", True, False), *KNOWN))
    assert {job.precision.autocast for job in found.jobs} == {"bfloat16", None}
    assert found.open_facts == ("bf16",)


def test_correlated_alternatives_never_mix() -> None:
    conditions = ("use_lora", "not (use_lora)")
    tuning = written("tuning", "lora", "full", conditions=conditions)
    dtype = written("load_dtype", "bfloat16", "float32", conditions=conditions)
    found = run(script(LLAMA, tuning, dtype, *KNOWN[:2]))
    assert {(job.adapter is not None, job.precision.weights) for job in found.jobs} == {
        (True, "bfloat16"),
        (False, "float32"),
    }


@pytest.mark.parametrize(
    ("tuning", "method"), [("full", None), ("lora", "lora"), ("qlora", "lora"), ("delora", "delora"), ("ia3", "ia3")]
)
def test_every_adapter_freezes_the_base(tuning: str, method: str | None) -> None:
    (job,) = run(script(LLAMA, written("tuning", tuning), *KNOWN)).jobs
    assert (job.adapter and job.adapter.method) == method


def test_not_given_on_one_path_means_the_default_there() -> None:
    found = run(script(LLAMA, written("optimizer", "adafactor", None), *KNOWN))
    assert {job.optimizer.name for job in found.jobs} == {"adafactor", "adamw_torch_fused"}


def test_unknown_sequence_length_spans_the_model() -> None:
    found = run(script(LLAMA, KNOWN[0], KNOWN[2]))
    assert sorted(job.batch.sequence_length for job in found.jobs) == [64, 4096]
    assert "sequence_length" in found.unresolved
    assert "sequence_length" in found.open_facts
    fact = found.get("sequence_length")
    assert fact is not None
    assert fact.origin is Origin.ASSUMED


def test_unknown_micro_batch_size_takes_the_least() -> None:
    found = run(script(LLAMA, unknown("micro_batch_size"), *KNOWN[1:]))
    assert {job.batch.micro_batch_size for job in found.jobs} == {1}
    assert found.unresolved == ("micro_batch_size",)


def test_unknown_model_gives_no_job() -> None:
    found = run(script(written("model", "nobody/has-this"), *KNOWN))
    assert found.jobs == ()
    assert found.unresolved == ("model",)


def test_unknown_model_id_keeps_its_fact() -> None:
    found = run(script(unknown("model"), *KNOWN))
    fact = found.get("model")
    assert fact is not None
    assert fact.origin is Origin.UNKNOWN


def test_padding_is_open_only_where_it_matters() -> None:
    batch = written("micro_batch_size", 4)
    open_padding = run(script(LLAMA, batch, *KNOWN[1:]))
    assert {job.batch.padding for job in open_padding.jobs} == {False, True}
    assert {job.batch.padding for job in run(script(LLAMA, *KNOWN)).jobs} == {False}


def test_many_open_facts_stay_bounded() -> None:
    names = ("bf16", "activation_checkpointing", "fused_loss", "packing", "gradient_accumulation_steps", "tuning")
    found = run(script(LLAMA, *(unknown(name) for name in names)))
    assert 2 <= len(found.jobs) <= MOST_JOBS
    assert {job.checkpointing.mode for job in found.jobs} == {"none", "nonreentrant"}


def test_inference_and_library_code_give_no_jobs() -> None:
    for kind in ("inference", "library"):
        found = run(script(LLAMA, written("run_kind", kind)))
        assert (found.kind, found.jobs) == (kind, ())


def test_many_numbers_span_by_their_ends_but_all_are_told() -> None:
    found = run(script(LLAMA, written("sequence_length", 512, 128, 256), KNOWN[0], KNOWN[2]))
    assert sorted(job.batch.sequence_length for job in found.jobs) == [128, 512]
    fact = found.get("sequence_length")
    assert fact is not None
    assert sorted(candidate.value for candidate in fact.candidates if isinstance(candidate.value, int)) == [
        128,
        256,
        512,
    ]


def test_a_script_with_endless_alternatives_stays_cheap() -> None:
    targets = written("lora_target_modules", *((f"m{i}",) for i in range(20)))
    tunings = written("tuning", *(f"method-{i}" for i in range(18)), "lora")
    found = run(script(LLAMA, targets, tunings, written("lora_r", *range(1, 9)), *KNOWN))
    assert len(found.jobs) <= MOST_JOBS
    fact = found.get("tuning")
    assert fact is not None
    assert len(fact.candidates) == 19


def test_both_ends_are_reached_when_the_room_is_gone() -> None:
    names = ("bf16", "activation_checkpointing", "fused_loss", "packing", "gradient_accumulation_steps", "tuning")
    found = run(script(LLAMA, *(unknown(name) for name in names), written("micro_batch_size", 1)))
    assert {job.batch.sequence_length for job in found.jobs} == {64, 4096}
