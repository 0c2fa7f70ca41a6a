"""How weights come to the host, and what ZeRO offloads there."""

from __future__ import annotations

import json

import pytest

from tests.resolve.making import NEWEST, files, place, run, script, written
from vramlint.facts import Link
from vramlint.job import Job, Loading, Zero

LLAMA = written("model", "meta-llama/Llama-3.1-8B", key="pretrained_model_name_or_path")
KNOWN = (LLAMA, written("micro_batch_size", 1), written("sequence_length", 512))


@pytest.mark.parametrize(
    ("facts", "loading"),
    [
        ((written("load_dtype", "bfloat16"),), Loading("bfloat16", mapped=True)),
        ((written("load_dtype", "float32"),), Loading("float32", mapped=False)),
        ((written("load_dtype", "float32"), written("device_map", "auto")), Loading("float32", mapped=True)),
        ((), Loading("bfloat16", mapped=True)),
    ],
)
def test_weights_in_the_checkpoints_dtype_are_mapped(facts, loading):
    (job,) = run(script(*KNOWN, *facts)).jobs
    assert job.loading == loading


@pytest.mark.parametrize(
    ("facts", "transformers", "arrives"),
    [
        ((), "5.23.0", "bfloat16"),
        ((), "4.51.3", "float32"),
        ((written("arrival_dtype", "float32"),), "5.23.0", "float32"),
        ((written("arrival_dtype", "auto"),), "4.51.3", "bfloat16"),
    ],
)
def test_weights_that_are_cast_on_the_device_come_there_as_they_are_loaded(facts, transformers, arrives):
    cast = (written("load_dtype", "float16"), written("cast_on_device", True))
    (job,) = run(script(*KNOWN, *cast, *facts), transformers=transformers).jobs
    assert job.precision.weights == "float16"
    assert job.loading == Loading(arrives, mapped=arrives == "bfloat16", arrives=arrives)


@pytest.mark.parametrize(("strategy", "whole"), [("full_shard", True), ("", False)])
def test_fsdp_shards_what_is_whole_on_the_device(strategy, whole):
    shared = (written("fsdp", strategy), written("world_size", 8)) if strategy else ()
    facts = (written("load_dtype", "bfloat16"), written("sharded_on_device", True), *shared)
    (job,) = run(script(*KNOWN, *facts)).jobs
    assert job.loading == Loading("bfloat16", mapped=True, whole=whole)


def test_a_checkpoint_whose_dtype_nobody_states_says_nothing():
    unknown = written("model", "acme/own-8b")
    config = json.dumps({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 100})
    context = files({"acme/own-8b/config.json": config}, versions=NEWEST)
    found = run(script(unknown, *KNOWN[1:], written("load_dtype", "float32")), context)
    assert [job.loading for job in found.jobs] == [Loading("float32", mapped=None)] * len(found.jobs)


def test_one_process_loads_for_all():
    facts = (written("fsdp", "full_shard"), written("world_size", 8), written("ram_efficient_loading", True))
    (job,) = run(script(*KNOWN, *facts, written("load_dtype", "float32"))).jobs
    assert job.loading == Loading("float32", mapped=False, by_one=True)


def offloaded(optimizer: dict[str, object], parameters: dict[str, object], deepspeed: str = "0.19.8") -> Zero:
    zero = {"stage": 3, "offload_optimizer": optimizer, "offload_param": parameters}
    ds = json.dumps({"bf16": {"enabled": True}, "zero_optimization": zero})
    sheet = script(*KNOWN, written("world_size", 8), links=(Link("deepspeed", "ds.json", place(3)),))
    job: Job
    (job,) = run(sheet, files({"ds.json": ds}, versions={**NEWEST, "deepspeed": deepspeed})).jobs
    assert job.parallelism.zero is not None
    return job.parallelism.zero


@pytest.mark.parametrize(
    ("said", "deepspeed", "pinned"),
    [
        ({}, "0.19.8", True),
        ({}, "0.19.4", False),
        ({"pin_memory": True}, "0.19.4", True),
        ({"pin_memory": False}, "0.19.8", False),
    ],
)
def test_page_locking_is_the_releases_default(said, deepspeed, pinned):
    assert offloaded({"device": "cpu", **said}, {"device": "none"}, deepspeed).optimizer_pinned is pinned


def test_buffers_of_swapping_are_read():
    zero = offloaded(
        {"device": "nvme", "buffer_count": 6},
        {"device": "nvme", "buffer_count": 3, "buffer_size": 2e8, "max_in_cpu": 0},
    )
    found = (zero.optimizer_swap_buffers, zero.swap_buffers, zero.swap_buffer_size, zero.parameters_in_ram)
    assert found == (6, 3, 200_000_000, 0)
