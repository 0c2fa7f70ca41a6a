"""Ranks of torch's device meshes: pipelines, shared sequences, tensor parallelism without FSDP."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from msgspec.structs import replace

from bench.meshes import CASES, mesh_job, peak_error
from vramlint.job import Mesh
from vramlint.memory import mesh_ranks, simulate
from vramlint.memory.communicators import communicators
from vramlint.memory.simulate import _Trace, trace
from vramlint.memory.torch_schedules import plan
from vramlint.memory.torch_stages import chunks_of
from vramlint.memory.torch_turns import turns, undominated

ROWS = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: json.dumps(row["case"]))
def test_ranks_are_counted_as_torchtitan_runs_them(row) -> None:
    assert abs(peak_error(row)) < 0.005


def held(schedule: str, rank: int, ranks: int, chunks: int, batches: int) -> list[tuple[object, ...]]:
    found = undominated(turns(plan(schedule, rank, ranks, chunks, batches), first=not rank))
    return [(turn.action, turn.chunk, turn.waiting, turn.gradients) for turn in found]


@pytest.mark.parametrize(
    ("schedule", "rank", "ranks", "chunks", "batches", "expected"),
    [
        ("1F1B", 0, 4, 1, 8, [(4, "none"), (4, "kept")]),
        ("1F1B", 3, 4, 1, 8, [(1, "none"), (1, "kept")]),
        ("1F1B", 0, 4, 1, 4, [(4, "none"), (3, "kept")]),
        ("gpipe", 1, 2, 1, 6, [(6, "none"), (5, "kept")]),
    ],
)
def test_a_schedule_comes_down_to_the_backwards_that_hold_the_most(
    schedule, rank, ranks, chunks, batches, expected
) -> None:
    assert held(schedule, rank, ranks, chunks, batches) == [("B", 0, (n,), (kind,)) for n, kind in expected]


def test_the_gradients_of_a_chunk_are_reduced_behind_its_last_backward() -> None:
    assert held("LoopedBFS", 0, 2, 2, 2) == [
        ("B", 1, (2, 2), ("none", "none")),
        ("B", 1, (2, 1), ("none", "kept")),
        ("B", 0, (2, 0), ("none", "reduced")),
        ("B", 0, (1, 0), ("kept", "reduced")),
    ]


def test_interleaved_stages_begin_more_forwards_than_plain_ones() -> None:
    found = turns(plan("Interleaved1F1B", 0, 4, 2, 8), first=True)
    assert max(sum(turn.waiting) for turn in found) == 4 + 2 * 3 + 1


WRITTEN = {
    ("InterleavedZeroBubble", 1, 2, 2, 4): "F0 F0 F1 I1 F1 I1 W1 F0 I0 W1 F0 I0 W0 F1 I1 W0 F1 I1 W1 I0 W1 I0 W0 W0",
    ("ZBVZeroBubble", 0, 2, 2, 3): "F0 F0 F0 F1 I1 W1 F1 I1 W1 I0 W0 F1 I1 W1 I0 W0 I0 W0",
    ("ZBVZeroBubble", 1, 2, 2, 3): "F0 F1 F0 F1 I1 W1 F0 I0 W0 F1 I1 W1 I0 I1 I0 W0 W1 W0",
    ("DualPipeV", 0, 2, 2, 4): "F0 F0 F0 F1 I1 W1 F1 F0 B1 F1 B0 B1 F1 B0 B1 I0 W0 I0 W0",
    ("DualPipeV", 1, 2, 2, 4): "F0 F1 F0 F1 F0 B1 F1 B0 F0 B1 F1 B0 B1 B0 I1 I0 W1 W0",
}
"""What torch 2.13's own schedules list for a rank, its two stages by their numbers there."""


@pytest.mark.parametrize("case", WRITTEN, ids=str)
def test_split_schedules_are_torchs(case) -> None:
    assert " ".join(f"{action}{chunk}" for action, chunk in plan(*case)) == WRITTEN[case]


IN_A_V = {"flavor": "8B", "layers": 14, "batch": 8, "seq": 512, "shards": 2, "pipeline": 2, "schedule": "ZBVZeroBubble"}


def test_what_the_first_stage_keeps_waits_for_the_backward_of_its_weights() -> None:
    found = turns(plan("ZBVZeroBubble", 0, 2, 2, 3), first=True)
    assert {turn.action for turn in found if turn.chunk == 0} == {"B"}
    assert {turn.action for turn in found if turn.chunk == 1} == {"I", "W"}
    assert max(sum(turn.waiting) for turn in found) == 4


def test_backwards_of_the_weights_leave_gradients_that_a_later_one_of_the_inputs_casts() -> None:
    found = turns(plan("InterleavedZeroBubble", 1, 2, 2, 4), first=False)
    assert {turn.gradients[1] for turn in found} == {"none", "fresh", "kept", "both", "reduced"}
    assert {turn.gradients[1] for turn in turns([*plan("1F1B", 0, 1, 1, 2), ("F", 1), ("B", 1)], first=True)} == {
        "none"
    }
    plain = turns(plan("InterleavedZeroBubble", 1, 2, 2, 4), first=False, sharded=False, widens=False)
    assert {turn.gradients[1] for turn in plain} == {"none", "kept"}


def test_the_point_of_a_v_hands_on_to_itself() -> None:
    first, last = mesh_ranks.kinds(mesh_job(IN_A_V))
    assert first.job.model.config["first"] and first.job.model.config["last"]
    assert not (last.job.model.config["first"] or last.job.model.config["last"])
    assert (first.job.model.config["turns_back"], last.job.model.config["turns_back"]) == (False, True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"checkpointing": "selective"}, "selective checkpoints by operators under ZBVZeroBubble"),
        ({"layers_per_stage": 2}, "ZBVZeroBubble of 4 stages a rank"),
        ({"schedule": "DualPipeV", "batch": 3}, "DualPipeV of 3 micro batches over 4 stages"),
        ({"schedule": "InterleavedZeroBubble", "batch": 5}, "InterleavedZeroBubble of 5 micro batches over 2 ranks"),
        ({"reshard": "always"}, "parameters that are sharded again behind forward under ZBVZeroBubble"),
    ],
)
def test_what_torch_refuses_of_split_backwards_is_refused(change, reason) -> None:
    found = simulate(mesh_job(IN_A_V | change), reserved=False)
    assert found.method != "simulated"
    assert reason in found.notes[0]


@pytest.mark.parametrize(("schedule", "checkpointing"), [("ZBVZeroBubble", "full"), ("Interleaved1F1B", "none")])
def test_many_layers_of_a_stage_leave_nothing_behind(schedule, checkpointing) -> None:
    case = {"flavor": "8B", "layers": 46, "batch": 4, "seq": 512, "shards": 2, "pipeline": 2, "schedule": schedule}
    *_, last = mesh_ranks.kinds(mesh_job(case | {"checkpointing": checkpointing}))
    traced = trace(last.job)
    assert isinstance(traced, _Trace)
    recorder, left = traced.recorder, Counter[str]()
    for block in recorder.blocks:
        for index, count in block.events:
            left[recorder.labels[index].component] += count * block.repeat * recorder.sizes[index]
    assert [component for component, size in left.items() if size] == ["optimizer states"]


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


MOE = {"model": "qwen3", "flavor": "30B-A3B", "layers": 6, "batch": 1, "seq": 2048, "shards": 8, "expert": 4}


def test_experts_are_shared_by_the_ranks_that_have_the_same_ones() -> None:
    (kind,) = mesh_ranks.kinds(mesh_job(MOE | {"tensor": 2}))
    config = kind.job.model.config
    assert (config["expert_ranks"], config["expert_shards"], config["divides_tokens"]) == (4, 4, True)
    (kind,) = mesh_ranks.kinds(mesh_job(MOE | {"tensor": 2, "expert_tensor": 2}))
    config = kind.job.model.config
    assert (config["expert_shards"], config["moe_intermediate_size"], config["divides_tokens"]) == (2, 768 // 2, False)


def test_a_share_of_more_ranks_than_experts_is_cut_by_rows() -> None:
    (kind,) = mesh_ranks.kinds(mesh_job(MOE | {"shards": 256}))
    assert (kind.job.model.config["expert_shards"], kind.job.model.config["expert_shard_dim"]) == (64, 1)


def test_even_routing_is_said_where_ranks_exchange_tokens() -> None:
    note = "every expert is taken to get as many tokens; a rank whose experts are chosen more often holds more"
    assert note in simulate(mesh_job(MOE), reserved=False).notes
    assert note not in simulate(mesh_job(MOE | {"expert": 1}), reserved=False).notes


def test_more_expert_ranks_hold_less_of_the_experts() -> None:
    few, many = (simulate(mesh_job(MOE | {"expert": ranks}), reserved=False) for ranks in (2, 8))
    assert few.parameters == many.parameters  # all ranks share all weights either way
    assert many.allocated < few.allocated


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"shards": 1, "tensor": 4, "expert_tensor": 4}, "expert parallelism without FSDP"),
        ({"tensor": 4, "expert_tensor": 2}, "experts over 2 of 4 tensor ranks"),
        ({"expert": 3}, "experts 128 over 3 ranks"),
        ({"expert": 16}, "16 expert ranks of 8 that share the rest"),
        ({"pipeline": 2, "schedule": "DualPipeV", "batch": 4}, "expert parallelism that overlaps the forwards"),
    ],
)
def test_what_torchtitan_refuses_of_experts_is_refused(change, reason) -> None:
    found = simulate(mesh_job(MOE | change), reserved=False)
    assert found.method != "simulated"
    assert reason in found.notes[0]


def test_every_second_layer_has_experts_where_the_model_says_so() -> None:
    case = {"model": "llama4", "flavor": "17bx128e", "layers": 6, "batch": 8, "seq": 512, "shards": 8, "pipeline": 2}
    first, last = mesh_ranks.kinds(mesh_job(case | {"expert": 8}))
    assert first.job.model.config["sparse_layers"] == ((False, True, False),)
    assert last.job.model.config["sparse_layers"] == ((True, False, True),)


def test_latent_attention_is_shared_by_no_ranks() -> None:
    case = {"model": "deepseek_v3", "flavor": "16B", "layers": 3, "batch": 1, "seq": 2048, "shards": 4, "tensor": 2}
    found = simulate(mesh_job(case), reserved=False)
    assert (found.method, "tensor parallelism of latent attention" in found.notes[0]) == ("bounded", True)
    found = simulate(mesh_job(case | {"tensor": 1, "context": 2}), reserved=False)
    assert (found.method, "context parallelism of latent attention" in found.notes[0]) == ("bounded", True)


TIED = {"model": "qwen3", "flavor": "0.6B", "layers": 4, "batch": 2, "seq": 512, "shards": 2}


def test_a_head_that_is_the_embedding_stores_one_weight_under_tensor_parallelism() -> None:
    (kind,) = mesh_ranks.kinds(mesh_job(TIED | {"tensor": 2}))
    traced = trace(kind.job)
    assert isinstance(traced, _Trace)
    vocabulary = 151_936 * 1024 * 4 // 4  # bytes of this rank's share of one
    stored = [tensors.nbytes for tensors in traced.sharding.persistent if tensors.component == "weights"]
    assert stored.count(vocabulary) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pipeline": 2}, "pipeline parallelism of a head that is the embedding, which torchtitan refuses"),
        ({"shards": 1, "tensor": 2}, "tensor parallelism of a head that is the embedding, without FSDP"),
    ],
)
def test_where_a_head_cannot_be_the_embedding_the_run_is_bounded(change, reason) -> None:
    found = simulate(mesh_job(TIED | change), reserved=False)
    assert (found.method, reason in found.notes[0]) == ("bounded", True)


@pytest.mark.parametrize("schedule", ["Interleaved1F1B", "InterleavedZeroBubble"])
def test_what_a_rank_computes_is_that_of_all_its_chunks_and_of_both_halves_of_a_backward(schedule) -> None:
    case = {"flavor": "8B", "layers": 10, "batch": 4, "seq": 512, "shards": 2, "pipeline": 2, "schedule": schedule}
    *_, last = mesh_ranks.kinds(mesh_job(case))
    found = {(work.part, work.layers): work.flops for work in simulate(last.job).work if work.kind == "linear"}
    forward = 2 * 512 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)  # of a layer
    assert found["forward", True] == forward * 5
    assert found["backward", True] == 2 * found["forward", True]
    assert found["backward", False] == 2 * found["forward", False] == 4 * 512 * 4096 * 128_256
