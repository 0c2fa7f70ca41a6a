"""The log of a step played into the allocator."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.memory.runs import llama
from vramlint.job import Adapter, Allocator, Batch, Checkpointing, Job, Optimizer, Precision
from vramlint.memory import simulate

BF16 = Precision("bfloat16")
DEEP = {"num_hidden_layers": 60, "hidden_size": 1024, "intermediate_size": 2816}


def deep(**overrides: object) -> Job:
    return llama(DEEP, batch=Batch(2, 512), precision=BF16, **overrides)


@pytest.mark.parametrize(
    "job",
    [
        deep(),
        deep(checkpointing=Checkpointing("nonreentrant"), optimizer=Optimizer("adamw_torch")),
        deep(checkpointing=Checkpointing("reentrant"), adapter=Adapter(8, 0.1, "all-linear")),
    ],
    ids=["plain", "checkpointed", "LoRA"],
)
def test_deep_models_are_extrapolated(job: Job, monkeypatch: pytest.MonkeyPatch):
    extrapolated = simulate(job).reserved
    monkeypatch.setattr("vramlint.memory.reserve.DEPTHS", (60, 100))

    assert extrapolated == pytest.approx(simulate(job).reserved, rel=0.015)


@pytest.mark.parametrize("mode", ["none", "reentrant", "nonreentrant"])
def test_repeated_layers_leave_what_layers_traced_one_by_one_leave(mode: str, monkeypatch: pytest.MonkeyPatch):
    job = deep(checkpointing=Checkpointing(mode))
    job = replace(job, model=replace(job.model, config={**job.model.config, "num_hidden_layers": 9}))
    repeated = simulate(job)
    monkeypatch.setattr("vramlint.memory.repetition.SINGLE_LAYERS", 9)

    assert repeated.reserved == simulate(job).reserved


def test_states_that_come_between_gradients_cost_segments():
    """They cannot reuse what the backward pass has left to the gradients."""
    adam, sgd = (simulate(deep(optimizer=Optimizer(name))) for name in ("adamw_torch_fused", "sgd"))

    assert adam.reserved - sgd.reserved > adam.optimizer_states * 0.9
    assert adam.reserved >= max(phase.reserved for phase in adam.phases)


def test_expandable_segments_fragment_less():
    job = deep(optimizer=Optimizer("adamw_torch"))
    plain, expandable = simulate(job), simulate(replace(job, allocator=Allocator(expandable_segments=True)))

    assert expandable.allocated == plain.allocated
    assert expandable.allocated <= expandable.reserved < plain.reserved
