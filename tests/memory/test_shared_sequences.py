"""Ranks that share every sequence around a model's attention: against counted steps, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from bench.gpu import record
from bench.sharded import CASES, outcome
from tests.memory.runs import llama
from vramlint.job import Attention, Batch, Evaluation, Job, Parallelism, Precision, SharedSequence, Zero
from vramlint.memory import simulate

COUNTED = (
    "zero3-llama8b-ulysses",
    "zero2-qwen-ulysses",
    "fsdp2-qwen3-ring-rows",
    "fsdp2-llama8b-flash-gather",
    "fsdp2-qwen3-flash-ring",
    "zero3-qwen3-swift",
    "zero2-qwen3-swift-rows",
    "zero3-qwen3-verl",
    "zero2-qwen-verl-rows",
    "zero2-llama8b-xtuner",
    "zero2-llama8b-xtuner-rows",
)
FORMS = ("ulysses", "ring", "flash-ring", "flash-gather", "swift", "verl", "xtuner")
LONG = Batch(1, 4096)


def shared(form: str, ranks: int = 4, batch: Batch = LONG, **changes: Any) -> Job:
    engine = Parallelism(8, "deepspeed", Zero(3)) if form in ("ulysses", "swift") else Parallelism(8, "fsdp")
    engine = replace(engine, fsdp_version=2, sequence=SharedSequence(ranks, form) if ranks > 1 else None)
    job = llama({}, batch=batch, parallelism=engine, precision=Precision("bfloat16", "bfloat16"))
    return replace(job, **changes)


def sliding(job: Job) -> Job:
    config = {**job.model.config, "sliding_window": 512}
    return replace(job, model=replace(job.model, model_type="mistral", config=config))


def named(job: Job, model_type: str) -> Job:
    return replace(job, model=replace(job.model, model_type=model_type))


@pytest.mark.parametrize("name", COUNTED)
def test_peaks_are_those_of_counted_steps(name):
    found = outcome(next(row for row in record.rows_of(CASES) if row["id"] == name))
    assert abs(found.error) < 0.0001
    assert found.states_exact


@pytest.mark.parametrize("form", FORMS)
def test_a_rank_holds_its_part_of_the_tokens_and_as_much_of_the_states(form):
    whole, part = (simulate(shared(form, ranks), reserved=False) for ranks in (1, 4))
    assert part.method == "simulated"
    assert (part.parameters, part.optimizer_states) == (whole.parameters, whole.optimizer_states)
    assert part.saved_activations < whole.saved_activations / 3
    assert part.saved_activations > whole.saved_activations / 5


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (shared("ulysses", attention=Attention("eager")), "eager"),
        (shared("ring", attention=Attention("flash_attention_2")), "flash_attention_2"),
        (shared("ulysses", ranks=3), "8 heads over 4 on 3 ranks"),
        (shared("swift", ranks=8), "8 ranks for 4 heads"),
        (shared("verl", ranks=8), "8 ranks for 4 heads"),
        (named(shared("xtuner"), "qwen3"), "a shared sequence in qwen3"),
        (shared("flash-gather", batch=Batch(2, 4096)), "2 rows"),
        (sliding(shared("ring")), "sliding windows"),
    ],
)
def test_what_the_libraries_refuse_is_said(job, reason):
    estimate = simulate(job, reserved=False)
    assert estimate.method == "bounded"
    assert reason in estimate.why


def test_models_whose_attention_is_their_own_are_refused():
    job = shared("ulysses")
    job = replace(job, model=replace(job.model, model_type="gpt2", config={"n_embd": 64, "n_layer": 2, "n_head": 4}))
    assert "a shared sequence in gpt2" in simulate(job, reserved=False).why


def test_deepspeed_evaluates_rows_that_nobody_shares():
    peaks = []
    for form in ("ulysses", "swift"):
        estimate = simulate(shared(form, evaluation=Evaluation(1)), reserved=False)
        peaks.append(next(phase.allocated for phase in estimate.phases if phase.phase == "evaluation"))
    assert peaks[0] > 2 * peaks[1]


def test_gradients_of_shared_sequences_are_reduced_in_float32_unless_told_otherwise():
    zero = Zero(3, reduce_bucket_size=1 << 20)
    job = shared("ulysses")
    wide, narrow = (
        simulate(replace(job, parallelism=replace(job.parallelism, zero=one)), reserved=False)
        for one in (zero, replace(zero, sequence_reduce_dtype="bfloat16"))
    )
    peaks = [next(p.allocated for p in one.phases if p.phase == "optimizer") for one in (wide, narrow)]
    assert peaks[0] - peaks[1] == 2 << 20
