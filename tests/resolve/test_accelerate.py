"""What an Accelerate configuration adds to the run that it starts, and what the run's own arguments keep."""

from __future__ import annotations

import json

import pytest

from tests.resolve.making import LLAMA, NEWEST, files, place, run, script, written
from vramlint.facts import Link, Sheet
from vramlint.job import Mesh, SharedSequence
from vramlint.readers.yaml import read_yaml
from vramlint.resolve import resolve
from vramlint.surfaces.accelerate_config import accelerate_sheet
from vramlint.text import Document
from vramlint.values import Entry, Scalar, Table

KNOWN = (LLAMA, written("micro_batch_size", 1), written("sequence_length", 512), written("load_dtype", "bfloat16"))
LINK = Link("accelerate", "configs/accelerate.yaml", place(2, "train.sh"))
ZERO_3 = """\
distributed_type: DEEPSPEED
deepspeed_config:
  zero_stage: 3
  offload_param_device: cpu
mixed_precision: bf16
num_processes: 8
"""
FSDP = """\
distributed_type: FSDP
fsdp_config: {fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP, fsdp_activation_checkpointing: true}
mixed_precision: fp16
num_processes: 4
"""


def joined(text: str, *facts, links=(LINK,), tables=(), **contents: str):
    context = files({"configs/accelerate.yaml": text, **contents}, versions=NEWEST)
    return run(script(*KNOWN, *facts, links=links, tables=tables), context)


def flags(**values) -> tuple[str, Table]:
    return "accelerate", Table(
        tuple(Entry(key, place(3), Scalar(value, place(3), "cli")) for key, value in values.items())
    )


def test_zero_stage_and_processes():
    found = joined(ZERO_3)
    assert found.paths == ("train.py", "configs/accelerate.yaml")
    (job,) = found.jobs
    assert (job.parallelism.world_size, job.parallelism.strategy, job.parallelism.zero.stage) == (8, "deepspeed", 3)
    assert job.parallelism.zero.offload_parameters == "cpu"
    assert found.get("precision").value == "bf16-mixed"
    assert found.get("zero_stage").place.path == "configs/accelerate.yaml"


def test_fsdp_with_its_own_checkpointing():
    (job,) = joined(FSDP, written("activation_checkpointing", False)).jobs
    assert (job.parallelism.strategy, job.parallelism.world_size) == ("fsdp", 4)
    assert job.checkpointing.mode != "none"


@pytest.mark.parametrize(
    ("own", "precision"),
    [
        ((), "fp16-mixed"),
        ((written("bf16", False),), "fp16-mixed"),
        ((written("bf16", True),), "bf16-mixed"),
    ],
)
def test_flags_of_the_trainer_win_over_mixed_precision(own, precision):
    assert joined(FSDP, *own).get("precision").value == precision


def test_no_mixed_precision_leaves_the_trainer_alone():
    assert joined(FSDP.replace("fp16", "'no'"), written("bf16", True)).get("precision").value == "bf16-mixed"


def test_argument_of_the_accelerator_wins():
    accelerated = (written("loop", "accelerate"), written("bf16", True), written("fp16", False))
    assert joined(FSDP, *accelerated).get("precision").value == "bf16-mixed"
    assert joined(FSDP, written("loop", "accelerate")).get("precision").value == "fp16-mixed"


def test_loop_without_accelerator_is_only_started():
    found = joined(FSDP, written("loop", "plain"))
    assert found.get("world_size").value == 4
    assert found.get("fsdp") is None
    assert found.get("precision").value != "fp16-mixed"


def test_deepspeed_of_the_trainer_wins():
    links = (LINK, Link("deepspeed", "ds.json", place(7)))
    ds = json.dumps({"zero_optimization": {"stage": 1}, "train_micro_batch_size_per_gpu": "auto"})
    found = joined(ZERO_3, links=links, **{"ds.json": ds})
    assert found.get("zero_stage").value == 1
    assert found.get("world_size").value == 8


def test_deepspeed_file_of_the_configuration():
    text = (
        "distributed_type: DEEPSPEED\ndeepspeed_config:\n  deepspeed_config_file: configs/ds.json\nnum_processes: 2\n"
    )
    ds = json.dumps({"zero_optimization": {"stage": 2}, "bf16": {"enabled": True}})
    found = joined(text, **{"configs/ds.json": ds})
    assert found.paths == ("train.py", "configs/ds.json", "configs/accelerate.yaml")
    assert (found.get("zero_stage").value, found.get("world_size").value) == (2, 2)


def test_flags_win_over_the_file():
    found = joined(ZERO_3, tables=(flags(num_processes=2, mixed_precision="fp16"),))
    assert (found.get("world_size").value, found.get("precision").value) == (2, "fp16-mixed")
    assert found.get("zero_stage").value == 3


def test_flags_without_a_file():
    found = joined("", links=(), tables=(flags(distributed_type="MULTI_GPU", num_processes=2),))
    assert (found.get("parallelism").value, found.get("world_size").value) == ("ddp", 2)


def test_number_that_the_launcher_says_too_stays_there():
    found = joined(FSDP, written("world_size", 4, key="CUDA_VISIBLE_DEVICES"))
    assert found.get("world_size").key == "CUDA_VISIBLE_DEVICES"
    assert [said.path for said in found.get("world_size").also] == ["configs/accelerate.yaml"]
    assert joined(FSDP, written("world_size", 2)).get("world_size").value == 4


def test_missing_file_is_said():
    (remark,) = joined("", links=(Link("accelerate", "gone.yaml", place(2)),)).remarks
    assert (remark.kind, remark.subject) == ("missing-file", "gone.yaml")


def test_file_is_found_from_the_folders_above():
    context = files({"repo/configs/accelerate.yaml": ZERO_3}, versions=NEWEST, root="repo")
    link = Link("accelerate", "configs/accelerate.yaml", place(2, "repo/scripts/run.sh"))
    sheet = script(*KNOWN, links=(link,))
    (found,) = resolve([Sheet("repo/src/train.py", sheet.kind, sheet.facts, sheet.links)], context)
    assert found.get("zero_stage").value == 3


def test_configuration_by_itself_is_data():
    root = read_yaml(Document.of("a.yaml", FSDP)).root
    (found,) = resolve([accelerate_sheet("a.yaml", root)], files({}, versions=NEWEST))
    assert (found.kind, found.jobs) == ("data", ())
    assert found.get("precision").value == "fp16-mixed"


def test_ranks_of_one_mesh_share_sequences_and_shards():
    found = joined(FSDP + "parallelism_config: {parallelism_config_cp_size: 2}\n")
    assert "parallelism" not in found.unresolved
    spread = found.jobs[0].parallelism
    assert (spread.sequence, spread.sequence_shards, spread.mesh) == (SharedSequence(2, "ring"), 1, None)


def test_ranks_of_one_mesh_share_matrices_where_fsdp_is_the_second():
    text = "parallelism_config: {parallelism_config_tp_size: 2}\n"
    assert "parallelism" in joined(FSDP + text).unresolved
    second = joined(FSDP.replace("{fsdp_auto", "{fsdp_version: 2, fsdp_auto") + text)
    assert "parallelism" not in second.unresolved
    spread = second.jobs[0].parallelism
    assert spread.mesh == Mesh(tensor=2, form="plan")
    assert spread.gpus == 2 * spread.world_size


@pytest.mark.parametrize(
    ("config", "fsdp", "wrapped", "checkpoints"),
    [
        ({"transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"]}, "full_shard auto_wrap", "LlamaDecoderLayer", False),
        ({"fsdp_transformer_layer_cls_to_wrap": "A,B"}, "full_shard auto_wrap", ("A", "B"), False),
        ({"activation_checkpointing": True}, "full_shard auto_wrap", None, True),
        ({"cpu_offload": True}, "full_shard auto_wrap offload", None, False),
    ],
)
def test_fsdp_file_of_the_trainer(config, fsdp, wrapped, checkpoints):
    link = Link("fsdp", "fsdp.json", place(4))
    found = joined("", written("fsdp", "full_shard auto_wrap"), links=(link,), **{"fsdp.json": json.dumps(config)})
    assert found.get("fsdp").value == fsdp
    assert (found.get("fsdp_wrap_class").value if found.get("fsdp_wrap_class") else None) == wrapped
    assert (found.get("activation_checkpointing").value is True) == checkpoints
    assert "fsdp.json" in found.paths


def test_fsdp_table_of_a_bare_flag():
    table = Table((Entry("reshard_after_forward", place(), Scalar(False, place())),))
    found = joined("", written("fsdp", True), links=(), tables=(("fsdp", table),))
    assert found.get("fsdp").value == "shard_grad_op"
    assert joined("", links=(), tables=(("fsdp", table),)).get("fsdp") is None


def test_checkpointing_that_the_arguments_ask_for_too_stays_theirs():
    own = written("activation_checkpointing", True, key="gradient_checkpointing")
    assert joined(FSDP, own).get("activation_checkpointing").key == "gradient_checkpointing"
    config = json.dumps({"activation_checkpointing": True})
    links = (Link("fsdp", "fsdp.json", place(4)),)
    found = joined("", own, written("fsdp", "full_shard"), links=links, **{"fsdp.json": config})
    assert found.get("activation_checkpointing").key == "gradient_checkpointing"


@pytest.mark.parametrize(
    ("options", "sizes", "shares"),
    [
        ("{fsdp_sharding_strategy: FULL_SHARD}", "{}", 8),
        ("{fsdp_sharding_strategy: HYBRID_SHARD}", "{}", 4),
        ("{fsdp_version: 2}", "{parallelism_config_dp_replicate_size: 2, parallelism_config_dp_shard_size: 4}", 4),
        ("{fsdp_version: 2}", "{parallelism_config_cp_size: 4, parallelism_config_dp_shard_size: 2}", 8),
        ("{fsdp_version: 2}", "{parallelism_config_dp_shard_size: 3}", 8),
    ],
)
def test_gpus_that_share_one_copy(options, sizes, shares):
    text = f"distributed_type: FSDP\nfsdp_config: {options}\nparallelism_config: {sizes}\n"
    (job,) = joined(f"{text}num_processes: 8\nnum_machines: 2\nmixed_precision: bf16\n").jobs
    assert job.parallelism.sharing == shares


@pytest.mark.parametrize(
    ("release", "table", "version"),
    [("5.23.0", {}, 2), ("5.9.0", {}, 1), ("5.23.0", {"version": 1}, 1)],
)
def test_the_trainers_own_fsdp_has_the_version_of_its_release(release, table, version):
    context = files({"fsdp.json": json.dumps(table)}, versions={**NEWEST, "transformers": release})
    link = Link("fsdp", "fsdp.json", place(4))
    sheet = script(*KNOWN, written("fsdp", "full_shard auto_wrap"), written("world_size", 8), links=(link,))
    (job,) = run(sheet, context).jobs
    assert (job.parallelism.strategy, job.parallelism.fsdp_version) == ("fsdp", version)


def test_accelerates_fsdp_stays_the_first_version():
    (job,) = joined(FSDP).jobs
    assert job.parallelism.fsdp_version == 1


@pytest.mark.parametrize(
    ("said", "prefetches"),
    [("", False), ("fsdp_backward_prefetch: BACKWARD_PRE", True), ("fsdp_backward_prefetch: BACKWARD_POST", False)],
)
def test_backward_gathers_in_advance_only_where_accelerate_is_told_to(said, prefetches):
    text = f"distributed_type: FSDP\nfsdp_config: {{{said}}}\nmixed_precision: bf16\nnum_processes: 4\n"
    (job,) = joined(text).jobs
    assert job.parallelism.fsdp_prefetches is prefetches
