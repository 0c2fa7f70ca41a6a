"""Ranks that share the matrices of a model of transformers by its plan; counted steps are in tests/bench."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.memory.runs import llama
from vramlint.catalog.tensor_plans import plan_of
from vramlint.job import Adapter, Batch, Job, Libraries, Mesh, Objective, Parallelism, Precision, Zero
from vramlint.memory import simulate

BF16 = Precision("bfloat16")


def planned(ranks: int = 4, model_type: str = "llama", version: tuple[int, ...] = (5, 23, 0), **config: Any) -> Job:
    found = llama(config, batch=Batch(2, 512), precision=BF16, libraries=Libraries(transformers=version))
    spread = Parallelism(1, "none", mesh=Mesh(tensor=ranks, form="plan"))
    return replace(found, model=replace(found.model, model_type=model_type), parallelism=spread)


def test_plans_name_each_matrix_of_a_layer_and_the_head() -> None:
    plan = plan_of("llama")
    assert plan is not None
    assert (plan["self_attn.o_proj"], plan["mlp.up_proj"]) == ("rowwise", "colwise")
    assert plan["lm_head"] == "colwise_gather_output"
    assert plan_of("gpt2") is None


@pytest.mark.parametrize(
    ("version", "whole"),
    [((4, 57, 0), 2), ((5, 12, 0), 2), ((5, 20, 0), 1), ((5, 23, 0), 0)],  # of embedding and head
)
def test_newer_plans_divide_the_head_and_then_the_embedding(version, whole) -> None:
    table, norms = 2000 * 256, (2 * 6 + 1) * 256
    layers = 6 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 704)
    found = simulate(planned(version=version), reserved=False)
    assert found.method == "simulated"
    assert found.total_parameters == norms + layers // 4 + whole * table + (2 - whole) * table // 4


@pytest.mark.parametrize(("version", "copies"), [((4, 57, 0), True), ((5, 15, 0), False), ((5, 16, 0), True)])
def test_sums_over_the_ranks_are_copies_where_tensors_are_dtensors(version, copies) -> None:
    found = simulate(planned(version=version), reserved=False, log=True)
    assert found.log is not None
    assert any(name.startswith("all-reduce") for name in found.log.names) is copies


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (planned(model_type="phi3"), "phi3 by colwise_gather_output"),
        (planned(model_type="stablelm"), "for which transformers has no plan"),
        (planned(ranks=8), "num_key_value_heads 4 over 8"),
        (replace(planned(), adapter=Adapter()), "adapters"),
        (replace(planned(), objective=Objective(loss="fused")), "the loss fused"),
        (planned(version=(5, 18, 0), tie_word_embeddings=True), "a head that is the embedding"),
        (
            replace(planned(), parallelism=Parallelism(2, "fsdp", fsdp_version=2, mesh=Mesh(tensor=4, form="plan"))),
            "whose preparation fails",
        ),
        (replace(planned(), parallelism=Parallelism(2, "ddp", mesh=Mesh(tensor=4, form="plan"))), "beside ddp"),
    ],
)
def test_what_has_no_plan_or_does_not_go_with_it_is_refused(job, reason) -> None:
    found = simulate(job, reserved=False)
    assert found.method == "bounded"
    assert reason in found.why


def test_autotp_leaves_the_embedding_whole_and_adds_up_in_place() -> None:
    job = planned()
    deepspeed = Parallelism(2, "deepspeed", Zero(1), mesh=Mesh(tensor=4, form="autotp"))
    found = simulate(replace(job, parallelism=deepspeed), reserved=False, log=True)
    assert found.method == "simulated"
    assert found.total_parameters - simulate(job, reserved=False).total_parameters == 2000 * 256 * 3 // 4
    assert found.log is not None
    assert not any(name.startswith("all-reduce") for name in found.log.names)
    third = replace(deepspeed, zero=Zero(3))
    assert "AutoTP with ZeRO 3" in simulate(replace(job, parallelism=third), reserved=False).why


def test_fsdp_shards_what_the_plan_leaves_of_the_model() -> None:
    job = planned(version=(5, 12, 0))
    alone = simulate(job, reserved=False)
    spread = Parallelism(2, "fsdp", fsdp_version=2, mesh=Mesh(tensor=4, form="plan"))
    both = simulate(replace(job, parallelism=spread), reserved=False)
    assert both.method == "simulated"
    assert both.parameters == pytest.approx(alone.parameters / 2, rel=0.01)
