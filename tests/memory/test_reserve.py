"""The log of a step played into the allocator."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.memory.runs import llama
from vramlint.job import Adapter, Allocator, Batch, Checkpointing, Job, Optimizer, Parallelism, Precision, Zero
from vramlint.memory import played as played_once
from vramlint.memory import reserve, simulate, trace
from vramlint.memory.allocator import MIB, CachingAllocator, LimitedAllocator, OutOfMemory
from vramlint.memory.playback import Playback
from vramlint.memory.score import Score
from vramlint.memory.timeline import Timeline

BF16 = Precision("bfloat16")
DEEP = {"num_hidden_layers": 60, "hidden_size": 1024, "intermediate_size": 2816}


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    played_once.forget()


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


@pytest.mark.parametrize("mode", ["none", "reentrant", "nonreentrant"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_every_step_leaves_what_the_one_before_it_left(stage: int, mode: str, monkeypatch: pytest.MonkeyPatch):
    """Layers may gather other sizes than their neighbours, as under ZeRO 3: what they hand on is freed all the same."""
    played: list[tuple[int, int]] = []
    play = reserve.play

    def twice(playback: Playback, depth: int) -> CachingAllocator:
        found = play(playback, depth)
        played.append((found.tensors, play(playback._replace(times=playback.times + 1), depth).tensors))
        return found

    monkeypatch.setattr(reserve, "play", twice)
    zero = Zero(stage, prefetch_bucket_size=300_000, parameter_persistence_threshold=1000)
    ranks = Parallelism(4, "deepspeed", zero) if stage else Parallelism()
    simulate(
        llama(
            {"num_hidden_layers": 12},
            batch=Batch(2, 512),
            checkpointing=Checkpointing(mode),
            parallelism=ranks,
            precision=Precision("float32"),
        )
    )

    assert played
    assert all(after == before for before, after in played)


def test_what_is_written_out_once_is_played_again_and_again(monkeypatch: pytest.MonkeyPatch):
    """Also after a card was full in the midst of it."""
    played: list[Playback] = []
    play = reserve.play

    def noted(playback: Playback, depth: int) -> CachingAllocator:
        played.append(playback)
        return play(playback, depth)

    monkeypatch.setattr(reserve, "play", noted)
    needed = simulate(deep(checkpointing=Checkpointing("nonreentrant"), optimizer=Optimizer("adamw_torch"))).allocated
    score = Score.of(played[0], 8)
    figures = []
    for _ in range(2):
        with pytest.raises(OutOfMemory):
            score.play(LimitedAllocator(needed // 8))
        endless = CachingAllocator()
        score.play(endless)
        figures.append((endless.reserved, endless.peak_blocks, endless.peak_tensors, endless.tensors))

    assert figures[0] == figures[1]
    assert figures[0][0] > 100 * MIB


def test_what_stays_is_played_by_itself_once_for_runs_that_differ_otherwise(monkeypatch: pytest.MonkeyPatch):
    played: list[int] = []
    settled = reserve.settled

    def noted(playback: Playback) -> int:
        played.append(len(playback.resident))
        return settled(playback)

    monkeypatch.setattr(reserve, "settled", noted)
    spares: list[int] = []
    for length in (128, 256):
        job = replace(deep(), batch=Batch(2, length))
        loading = next(phase for phase in simulate(job).phases if phase.phase == "loading")
        spares.append(loading.reserved - loading.allocated)
    assert len(played) == 1
    assert spares[0] == spares[1] > 0

    simulate(replace(deep(), precision=Precision("float32")))
    assert len(played) == 2


def test_the_tensors_of_a_run_are_summed_up_once(monkeypatch: pytest.MonkeyPatch):
    """What is estimated without the allocator is often wanted with it next."""
    made: list[Timeline] = []
    start = Timeline.__init__

    def noted(self: Timeline, *args: Any) -> None:
        made.append(self)
        start(self, *args)

    job = llama({"num_hidden_layers": 4}, batch=Batch(2, 512), precision=BF16)
    monkeypatch.setattr(Timeline, "__init__", noted)
    simulation = trace(job)
    alone, both, again = (simulation.estimate(reserved=reserved) for reserved in (False, True, False))
    assert len(made) == 1
    assert alone == again
    assert alone.allocated == both.allocated == alone.reserved < both.reserved

    assert simulation.estimate(reserved=False, log=True).log is not None
    assert simulation.estimate(reserved=False).log is None
