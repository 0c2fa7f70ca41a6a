"""Ranks of torch's device meshes: pipelines, shared sequences, tensor parallelism without FSDP."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bench.meshes import CASES, mesh_job, peak_error
from vramlint.job import Mesh
from vramlint.memory import simulate
from vramlint.memory.communicators import communicators
from vramlint.memory.torch_schedules import turns
from vramlint.memory.torch_stages import chunks_of

ROWS = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: json.dumps(row["case"]))
def test_ranks_are_counted_as_torchtitan_runs_them(row) -> None:
    assert abs(peak_error(row)) < 0.005


@pytest.mark.parametrize(
    ("schedule", "rank", "ranks", "chunks", "batches", "expected"),
    [
        ("1F1B", 0, 4, 1, 8, ((0, (4,)), (0, (4,)))),
        ("1F1B", 3, 4, 1, 8, ((0, (1,)), (0, (1,)))),
        ("1F1B", 0, 4, 1, 4, ((0, (4,)), (0, (3,)))),
        ("gpipe", 1, 2, 1, 6, ((0, (6,)), (0, (5,)))),
        ("LoopedBFS", 0, 2, 2, 2, ((1, (2, 2)), (1, (2, 1)), (0, (2, 0)), (0, (1, 0)))),
    ],
)
def test_a_schedule_comes_down_to_the_backwards_that_hold_the_most(
    schedule, rank, ranks, chunks, batches, expected
) -> None:
    assert turns(schedule, rank, ranks, chunks, batches) == expected


def test_interleaved_stages_begin_more_forwards_than_plain_ones() -> None:
    most = max(sum(waiting) for _, waiting in turns("Interleaved1F1B", 0, 4, 2, 8))
    assert most == 4 + 2 * 3 + 1


def test_embedding_and_head_count_as_layers() -> None:
    first, second = chunks_of(Mesh(pipeline=2), 6)
    assert [(len(part.layers), part.embedding, part.head) for part in (*first, *second)] == [
        (3, True, False),
        (3, False, True),
    ]
    looped = chunks_of(Mesh(pipeline=2, schedule="Interleaved1F1B"), 14)
    assert [[part.layers for part in parts] for parts in looped] == [
        [(0, 1, 2), (7, 8, 9, 10)],
        [(3, 4, 5, 6), (11, 12, 13)],
    ]


def test_modules_of_a_stage_may_be_written_out() -> None:
    parts = (("tok_embeddings", "layers.0"), ("layers.1", "layers.2", "norm", "output"))
    first, second = chunks_of(Mesh(pipeline=2, parts=parts), 3)
    assert (first[0].layers, first[0].embedding, second[0].layers, second[0].head) == ((0,), True, (1, 2), True)


def test_the_worst_stage_is_named() -> None:
    case = {"flavor": "8B", "layers": 10, "batch": 8, "seq": 2048, "shards": 4, "pipeline": 4}
    found = simulate(mesh_job(case), reserved=False)
    assert [rank.name for rank in found.ranks] == [f"stage {number} of 4" for number in range(4)]
    assert (found.ranks[0].holds, found.ranks[3].holds) == (
        "2 layers, 4 forwards in flight, embedding",
        "2 layers, logits and loss",
    )


def test_every_dimension_of_a_mesh_has_a_communicator() -> None:
    case = {"flavor": "8B", "layers": 4, "batch": 8, "seq": 4096, "shards": 2, "pipeline": 2, "tensor": 4, "context": 2}
    job = mesh_job(case)
    job = replace(job, parallelism=replace(job.parallelism, nodes=4))
    named = {one.name: one.ranks for one in communicators(job)}
    assert named == {"world": 32, "shards": 4, "tensor": 4, "context": 2, "pipeline": 2}
