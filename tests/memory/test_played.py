"""Logs that the allocator has been played once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from tests.engine.builders import GPU
from tests.memory.runs import llama
from vramlint.job import Allocator, Batch, Checkpointing, Job, Loading, Optimizer, Parallelism, Zero
from vramlint.memory import played, pressure, reserve, simulate
from vramlint.memory.allocator import CachingAllocator
from vramlint.memory.holdings import Tensors
from vramlint.memory.playback import Playback

OFFLOADED = Parallelism(4, "deepspeed", Zero(2, offload_optimizer="cpu"))


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    played.forget()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (llama(loading=Loading()), llama(loading=Loading("bfloat16"))),
        (
            llama(parallelism=OFFLOADED, optimizer=Optimizer("adamw_torch_fused")),
            llama(parallelism=OFFLOADED, optimizer=Optimizer("deepspeed_cpu_adam")),
        ),
    ],
)
def test_what_allocates_the_same_is_played_once(first: Job, second: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    before = simulate(first)
    monkeypatch.setattr(reserve, "peak_held", None)
    after = simulate(second)
    assert (after.reserved, after.blocks) == (before.reserved, before.blocks)


def test_what_a_full_card_asks_for_is_played_once(monkeypatch: pytest.MonkeyPatch) -> None:
    job = llama(batch=Batch(8, 128))
    need = simulate(job)
    room = (need.allocated + need.reserved) // 2
    tight = replace(job, gpu=replace(GPU, usable_bytes=room, context_bytes=0))
    found: list[int] = []

    def counted(playback: Playback, room: int, most: int) -> pressure.Pressure:
        found.append(room)
        return original(playback, room, most)

    original: Callable[[Playback, int, int], pressure.Pressure] = pressure.pressure_of
    monkeypatch.setattr(pressure, "pressure_of", counted)
    first = simulate(tight)
    assert simulate(replace(tight, loading=Loading("bfloat16"))).tight is first.tight
    assert simulate(job).tight is False
    larger = replace(job, gpu=replace(GPU, usable_bytes=room + (1 << 20), context_bytes=0))
    simulate(larger)
    assert found == [room, room + (1 << 20)]


@pytest.mark.parametrize(
    "other",
    [
        llama(batch=Batch(3, 128)),
        llama({"num_hidden_layers": 7}),
        llama(checkpointing=Checkpointing("nonreentrant")),
        llama(optimizer=Optimizer("sgd")),
        llama(allocator=Allocator(expandable_segments=True)),
        llama(allocator=Allocator(divisions=4)),
        llama(allocator=Allocator(garbage_collection_threshold=0.1), gpu=GPU),
        llama(parallelism=Parallelism(4, "fsdp")),
        llama(objective=replace(llama().objective, loop="script")),
    ],
)
def test_what_differs_is_played(other: Job) -> None:
    alone = simulate(other)
    played.forget()
    simulate(llama())
    assert simulate(other) == alone
    assert len(played._held) == 2


def _playback() -> Playback:
    return Playback([Tensors("weights", 1 << 22)], [], [1 << 21], frozenset(), frozenset(), 1, {}, CachingAllocator)


@pytest.mark.parametrize(
    "changes",
    [
        {"resident": [Tensors("weights", 1 << 22, 2)]},
        {"resident": [Tensors("weights", 1 << 22, 1, (0, 1))]},
        {"sizes": [1 << 22]},
        {"once": frozenset({0})},
        {"later": frozenset({0})},
        {"times": 2},
        {"before": [[1 << 25]]},
        {"others": [_playback()]},
    ],
)
def test_everything_that_is_played_tells(changes: dict[str, Any]) -> None:
    assert played._content(_playback()._replace(**changes)) != played._content(_playback())


def test_few_are_kept() -> None:
    for size in range(played.MOST_KEPT + 3):
        played.peak_held(_playback()._replace(sizes=[size]))
    assert len(played._held) == played.MOST_KEPT
