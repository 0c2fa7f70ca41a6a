"""Layers of a pipeline's stages: even, uneven and by a layout; and what is in flight."""

from __future__ import annotations

import pytest

from vramlint.job import Batch, Megatron
from vramlint.memory.pipeline_layout import Chunks, in_flight, parsed, stages
from vramlint.memory.refusal import NotFollowedError


def _counts(found: Chunks) -> list[int]:
    return [len(chunk) for chunk in found]


@pytest.mark.parametrize(
    ("engine", "layers", "counts"),
    [
        (Megatron(pipeline=4), 12, [[3], [3], [3], [3]]),
        (Megatron(pipeline=2, chunks=2), 8, [[2, 2], [2, 2]]),
        (Megatron(pipeline=4, first_layers=1, last_layers=3), 10, [[1], [3], [3], [3]]),
        (Megatron(pipeline=2, first_layers=4), 10, [[4], [6]]),
        (Megatron(pipeline=2, first_layers=4, last_layers=6), 10, [[4], [6]]),
        (Megatron(pipeline=4, chunks=2, counts_embedding=True, counts_loss=True), 6, [[0, 1], [1, 1], [1, 1], [1, 0]]),
        (Megatron(pipeline=2, layout="Et*3|(tt|)*2tL", chunks=2), 8, [[3, 2], [2, 1]]),
        (Megatron(pipeline=2, layout="E,t*2|t*3,L"), 5, [[2], [3]]),
    ],
)
def test_layers_are_divided(engine: Megatron, layers: int, counts: list[list[int]]) -> None:
    found = stages(engine, layers)
    assert [_counts(chunks) for chunks in found] == counts
    assert sorted(layer for chunks in found for chunk in chunks for layer in chunk) == list(range(layers))


def test_layers_are_numbered_chunk_after_chunk() -> None:
    assert stages(Megatron(pipeline=2, chunks=2), 8) == [((0, 1), (4, 5)), ((2, 3), (6, 7))]


@pytest.mark.parametrize(
    "engine",
    [
        Megatron(pipeline=5),
        Megatron(pipeline=2, chunks=5),
        Megatron(pipeline=3, first_layers=13),
        Megatron(pipeline=2, first_layers=4, last_layers=4),
        Megatron(pipeline=2, layout="Et*6|t*6mL"),
        Megatron(pipeline=2, layout="Et*6|t*7L"),
        Megatron(pipeline=2, layout="t*6|Et*6L"),
        Megatron(pipeline=2, layout="Et*6|t*2|t*4L"),
        Megatron(pipeline=1, layout="Et*99999999999L"),
        Megatron(pipeline=1, layout="ExL"),
    ],
)
def test_what_does_not_divide_is_refused(engine: Megatron) -> None:
    with pytest.raises(NotFollowedError):
        stages(engine, 12)


@pytest.mark.parametrize(
    ("layout", "parts"),
    [
        ("Ettt|(tt|)*2,m|L", ["Ettt", "tt", "tt", "m", "L"]),
        ("Et*2|(tt|)*5t|tmL", ["Ett", "tt", "tt", "tt", "tt", "tt", "t", "tmL"]),
        ("(|t)*2", ["", "t", "t"]),
    ],
)
def test_a_layout_is_read(layout: str, parts: list[str]) -> None:
    assert parsed(layout) == parts


@pytest.mark.parametrize(
    ("engine", "stage", "steps", "forwards"),
    [
        (Megatron(pipeline=4), 1, 8, [3]),
        (Megatron(pipeline=2, chunks=3), 0, 8, [3, 2, 2]),
        (Megatron(pipeline=2, chunks=3), 1, 8, [2, 2, 1]),
        (Megatron(pipeline=4, chunks=2), 0, 4, [4, 4]),
        (Megatron(pipeline=4, chunks=2), 3, 2, [2, 2]),
    ],
)
def test_chunks_take_turns(engine: Megatron, stage: int, steps: int, forwards: list[int]) -> None:
    assert in_flight(engine, stage, Batch(gradient_accumulation_steps=steps)) == forwards
