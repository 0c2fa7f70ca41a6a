"""One process that sees several GPUs."""

from __future__ import annotations

import json

import pytest

from tests.resolve.making import LLAMA, NEWEST, files, place, run, script, unknown, written
from vramlint.facts import Fact, Link

KNOWN = (LLAMA, written("micro_batch_size", 1), written("sequence_length", 512), written("load_dtype", "bfloat16"))
SEEN = written("world_size", 2, key="CUDA_VISIBLE_DEVICES")


def test_trainer_under_python_replicates():
    (job,) = run(script(*KNOWN, SEEN, written("launcher", "python"))).jobs
    assert (job.parallelism.strategy, job.parallelism.world_size) == ("dataparallel", 2)


@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_launchers_start_a_process_for_each(launcher):
    (job,) = run(script(*KNOWN, SEEN, written("launcher", launcher))).jobs
    assert job.parallelism.strategy == "ddp"


def test_shares_are_those_of_processes():
    ds = json.dumps({"zero_optimization": {"stage": 3}, "bf16": {"enabled": True}})
    sheet = script(*KNOWN, SEEN, written("launcher", "python"), links=(Link("deepspeed", "ds.json", place(3)),))
    found = run(sheet, files({"ds.json": ds}, versions=NEWEST))
    assert found.get("world_size").value == 1
    (job,) = run(script(*KNOWN, SEEN, written("launcher", "python"), written("fsdp", "full_shard"))).jobs
    assert job.parallelism.world_size == 1


def test_device_map_spreads_instead():
    (job,) = run(script(*KNOWN, SEEN, written("launcher", "python"), written("device_map", "auto"))).jobs
    assert job.parallelism.strategy == "device_map"


@pytest.mark.parametrize(
    ("nodes", "each", "ends"),
    [
        (written("nodes", 1), unknown("gpus_per_node"), {1, 8}),
        (written("nodes", 4), unknown("gpus_per_node"), {4, 32}),
        (unknown("nodes"), written("gpus_per_node", 4), {4, 32}),
        (unknown("nodes"), unknown("gpus_per_node"), {1, 64}),
    ],
)
def test_a_launcher_for_several_machines_may_start_more_than_one_holds(nodes: Fact, each: Fact, ends: set[int]) -> None:
    launcher = written("launcher", "torchrun")
    found = run(script(LLAMA, launcher, nodes, each, unknown("world_size"))).get("world_size")
    assert found is not None
    assert {candidate.value for candidate in found.candidates} == ends


@pytest.mark.parametrize(
    ("facts", "declared", "shape"),
    [
        ((written("world_size", 128), written("nodes", 16)), {}, (128, 16, 8)),
        ((written("world_size", 128), written("gpus_per_node", 4)), {}, (128, 32, 4)),
        ((written("world_size", 20),), {}, (20, 3, 7)),
        ((), {"world_size": 4096, "nodes": 512}, (4096, 512, 8)),
    ],
)
def test_a_run_is_spread_over_its_machines(facts, declared, shape):
    context = files({}, versions=NEWEST, **declared)
    (job,) = run(script(*KNOWN, *facts, written("launcher", "torchrun")), context).jobs
    found = job.parallelism
    assert (found.world_size, found.nodes, found.ranks_per_node) == shape


def test_hybrid_shards_are_those_of_a_machine():
    context = files({}, versions=NEWEST, world_size=128, nodes=16)
    sheet = script(*KNOWN, written("fsdp", "hybrid_shard auto_wrap"), written("launcher", "torchrun"))
    (job,) = run(sheet, context).jobs
    found = job.parallelism
    assert (found.world_size, found.replicas, found.sharing) == (128, 16, 8)
