"""What one file of a run says in vain because of another."""

from __future__ import annotations

import json

import pytest

from tests.resolve.making import LLAMA, NEWEST, files, place, run, script, written
from vramlint.facts import Candidate, Fact, Link, Origin, Remark, Sheet
from vramlint.job import Mesh
from vramlint.resolve.overruled import fsdp_beside_deepspeed
from vramlint.values import Entry, Scalar, Table

LINK = Link("deepspeed", "ds.json", place(7))


def remarks(config: object, *facts: Fact) -> list[Remark]:
    sheet = script(LLAMA, written("micro_batch_size", 1), *facts, links=(LINK,))
    found = run(sheet, files({"ds.json": json.dumps(config)}, versions=NEWEST))
    return list(found.remarks)


@pytest.mark.parametrize(
    ("optim", "section", "ignored"),
    [
        ("paged_adamw_8bit", "AdamW", True),
        ("adafactor", "Adam", True),
        ("lion_8bit", "Lion", True),
        ("adamw_torch", "AdamW", False),
        ("adamw_torch_fused", "Adam", False),
        ("lion_32bit", "Lion", False),
        ("sgd", "SGD", False),
    ],
)
def test_the_optimizer_of_the_file_takes_the_place_of_the_trainers(optim: str, section: str, ignored: bool) -> None:
    config = {"optimizer": {"type": section, "params": {"lr": "auto"}}, "zero_optimization": {"stage": 2}}
    found = remarks(config, written("optimizer", optim, key="optim"))
    assert [remark.kind for remark in found] == ["ignored-optimizer"] * ignored


def test_ranks_that_share_matrices_by_autotp_leave_fewer_for_zero() -> None:
    config = {"zero_optimization": {"stage": 1}, "tensor_parallel": {"autotp_size": 2}}
    sheet = script(LLAMA, written("micro_batch_size", 1), written("world_size", 8), links=(LINK,))
    found = run(sheet, files({"ds.json": json.dumps(config)}, versions=NEWEST))
    assert "parallelism" not in found.unresolved
    spread = found.jobs[0].parallelism
    assert (spread.mesh, spread.world_size, spread.gpus) == (Mesh(tensor=2, form="autotp"), 4, 8)


def test_without_an_optimizer_in_the_file_the_trainers_own_runs() -> None:
    assert remarks({"zero_optimization": {"stage": 2}}, written("optimizer", "paged_adamw_8bit", key="optim")) == []


@pytest.mark.parametrize(
    ("section", "kinds"),
    [
        ({"partition_activations": True, "cpu_checkpointing": True}, ["unread-section"]),
        ({"partition_activations": False, "cpu_checkpointing": False, "profile": True}, []),
        ({}, []),
    ],
)
def test_deepspeeds_own_checkpointing(section: object, kinds: list[str]) -> None:
    config = {"zero_optimization": {"stage": 2}, "activation_checkpointing": section}
    assert [remark.kind for remark in remarks(config)] == kinds


def test_a_program_of_its_own_may_call_deepspeeds_checkpointing() -> None:
    config = {"activation_checkpointing": {"partition_activations": True}, "zero_optimization": {"stage": 2}}
    assert remarks(config, written("loop", "script"), written("parallelism", "deepspeed")) == []


@pytest.mark.parametrize(
    ("config", "subjects"),
    [
        ({"bf16": {"enabled": "auto"}, "zero_optimization": {"stage": 2}}, ["bf16.enabled"]),
        ({"bf16": {"enabled": "auto"}, "train_batch_size": "auto"}, ["train_batch_size"]),
        ({"bf16": {"enabled": True}, "expert_parallel": {"top_k": "auto"}}, []),
        ({"zero_optimization": {"stage": 3, "sub_group_size": "auto"}}, []),
    ],
)
def test_auto_without_a_trainer(config: object, subjects: list[str]) -> None:
    engine = (written("loop", "script"), written("parallelism", "deepspeed", key="deepspeed.initialize"))
    found = [remark.subject for remark in remarks(config, *engine) if remark.kind == "unfilled-auto"]
    assert found == subjects
    assert not [remark for remark in remarks(config) if remark.kind == "unfilled-auto"]


def fsdp(**options: bool) -> tuple[tuple[str, Table], ...]:
    entries = tuple(Entry(key, place(3), Scalar(value, place(3))) for key, value in options.items())
    return (("fsdp", Table(entries, place(3))),)


@pytest.mark.parametrize(
    ("own", "option", "kinds"),
    [
        (True, True, ["checkpointed-twice"]),
        (True, False, []),
        (False, True, []),
    ],
)
def test_checkpointing_of_fsdp_beside_the_trainers(own: bool, option: bool, kinds: list[str]) -> None:
    facts = (written("fsdp", "full_shard"), written("activation_checkpointing", own, key="gradient_checkpointing"))
    found = run(script(LLAMA, *facts, tables=fsdp(activation_checkpointing=option)))
    assert [remark.kind for remark in found.remarks] == kinds


@pytest.mark.parametrize(("own", "kinds"), [(True, ["checkpointed-twice"]), (False, [])])
def test_checkpointing_of_accelerates_configuration_beside_the_trainers(own: bool, kinds: list[str]) -> None:
    text = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
fsdp_config:
  fsdp_activation_checkpointing: true
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
num_machines: 1
num_processes: 8
"""
    named = Fact("accelerate_config", (Candidate("fsdp.yaml", place(2)),), Origin.WRITTEN)
    facts = (named, written("activation_checkpointing", own, key="gradient_checkpointing"))
    sheet = script(LLAMA, *facts, links=(Link("accelerate", "fsdp.yaml", place(2)),))
    found = run(sheet, files({"fsdp.yaml": text}, versions=NEWEST))
    assert [remark.kind for remark in found.remarks] == kinds


@pytest.mark.parametrize(
    ("value", "origin", "shared", "trainer", "said"),
    [
        ("full_shard", Origin.WRITTEN, "deepspeed", True, 1),
        ("", Origin.WRITTEN, "deepspeed", True, 0),
        ("full_shard", Origin.DEFAULT, "deepspeed", True, 0),
        ("full_shard", Origin.WRITTEN, "fsdp", True, 0),
        ("full_shard", Origin.WRITTEN, "deepspeed", False, 0),
    ],
)
def test_the_trainer_refuses_fsdp_beside_accelerates_deepspeed(
    value: str, origin: Origin, shared: str, trainer: bool, said: int
) -> None:
    own = {"fsdp": Fact("fsdp", (Candidate(value, place(3)),), origin, "fsdp", "written")}
    sheet = Sheet("acc.yaml", "accelerate", (written("parallelism", shared),))
    found = list(fsdp_beside_deepspeed(own, sheet, trainer=trainer))
    assert [remark.kind for remark in found] == ["fsdp-with-deepspeed"] * said
