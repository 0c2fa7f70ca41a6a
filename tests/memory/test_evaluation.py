"""Evaluation between steps, generation, and what they hold."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.memory.runs import LLAMA, llama
from vramlint.estimate import Estimate
from vramlint.job import Batch, Checkpointing, Evaluation, Job, Model, Objective, Precision
from vramlint.memory import simulate

VOCABULARY = LLAMA["vocab_size"]
KV_BYTES = 2 * LLAMA["num_hidden_layers"] * LLAMA["num_key_value_heads"] * 32 * 2
"""Of one token of the small llama in bfloat16: keys and values of 4 heads of size 32 in every layer."""


def phase(estimate: Estimate, name: str) -> int:
    return next(peak.allocated for peak in estimate.phases if peak.phase == name)


def evaluated(evaluation: Evaluation | None, **overrides: Any) -> Estimate:
    return simulate(llama(batch=Batch(1, 128), evaluation=evaluation, **overrides), reserved=False)


def test_evaluation_is_a_phase_of_its_own():
    without, small, large = (evaluated(kind) for kind in (None, Evaluation(1), Evaluation(64)))

    assert [peak.phase for peak in without.phases] == ["loading", "forward", "backward", "optimizer"]
    assert small.peak_phase != "evaluation"
    assert large.peak_phase == "evaluation"
    assert large.allocated == phase(large, "evaluation") > small.allocated == without.allocated
    assert phase(large, "backward") == phase(small, "backward")


def test_collected_logits_are_there_twice_while_they_are_put_together():
    batch = 4 * 128 * VOCABULARY * 4
    base = phase(evaluated(Evaluation(4)), "evaluation")

    def kept(samples: int | None) -> int:
        return phase(evaluated(Evaluation(4, keeps_logits=True, samples=samples)), "evaluation")

    assert kept(4) == base
    assert kept(400) - base == pytest.approx((99 + 100) * batch, rel=0.02)
    assert kept(None) == kept(8)
    bounded = evaluated(Evaluation(4, keeps_logits=True, samples=400, accumulation_batches=1))
    assert phase(bounded, "evaluation") == base


def test_checkpointing_does_not_change_an_evaluation():
    plain = evaluated(Evaluation(64))
    checkpointed = evaluated(Evaluation(64), checkpointing=Checkpointing("nonreentrant"))

    assert phase(plain, "evaluation") == phase(checkpointed, "evaluation")


def test_generation_holds_weights_and_a_growing_cache():
    job = Job(
        Model("small", "llama", LLAMA),
        precision=Precision("bfloat16"),
        batch=Batch(4, 64, generated_tokens=1000),
        objective=Objective(kind="inference"),
    )
    short, long = simulate(job), simulate(replace(job, batch=replace(job.batch, generated_tokens=2000)))
    parts = {part.name: part.bytes for part in long.components}

    assert long.peak_phase == "decode"
    assert long.optimizer_states == long.gradients == long.trainable_parameters == 0
    assert parts["weights"] >= long.parameters
    assert parts["key/value cache"] >= 4 * 2064 * KV_BYTES
    assert long.allocated - short.allocated == pytest.approx(4 * 1000 * KV_BYTES, rel=0.1)


def test_generation_in_an_evaluation_is_a_phase_of_its_own_with_a_cache():
    plain, short, long = (evaluated(Evaluation(16, generated_tokens=tokens)) for tokens in (0, 4000, 8000))

    assert phase(short, "evaluation") == phase(long, "evaluation") == phase(plain, "evaluation")
    assert "generation" not in {peak.phase for peak in plain.phases}
    in_float32 = 2 * KV_BYTES
    assert phase(long, "generation") - phase(short, "generation") == pytest.approx(16 * 4000 * in_float32, rel=0.1)
