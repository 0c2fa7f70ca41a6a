"""Changes that only `fit` offers: to which jobs, and what they make of them."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.engine.builders import GPU
from tests.fixes.test_plan import job
from vramlint.fixes.axes import axes_of
from vramlint.fixes.further_moves import FSDP, gpus_move, launch_move
from vramlint.job import (
    Adapter,
    Evaluation,
    Job,
    Libraries,
    Mesh,
    Objective,
    Optimizer,
    Parallelism,
    Quantization,
    Zero,
)

DDP = Parallelism(4, "ddp")


def whole(parallelism: Parallelism = DDP, **fields: object) -> Job:
    return replace(job(), parallelism=parallelism, **fields)


@pytest.mark.parametrize(("transformers", "version"), [((4, 57, 6), 1), ((5, 9, 9), 1), ((5, 10, 0), 2)])
def test_fsdp_takes_the_place_of_ddp(transformers: tuple[int, ...], version: int) -> None:
    subject = whole(libraries=Libraries(transformers=transformers))
    assert FSDP.applies(subject, GPU)
    shared = FSDP.change(subject).parallelism
    assert (shared.strategy, shared.fsdp_sharding, shared.fsdp_wraps_layers) == ("fsdp", "full", True)
    assert (shared.fsdp_version, shared.fsdp_gathers_on_save) == (version, version == 1)
    assert FSDP.facts(subject) == {"fsdp": "full_shard auto_wrap"}


@pytest.mark.parametrize(
    "subject",
    [
        whole(Parallelism()),
        whole(Parallelism(1, "ddp")),
        whole(Parallelism(4, "fsdp")),
        whole(Parallelism(4, "deepspeed", Zero(2))),
        whole(Parallelism(4, "dataparallel")),
        whole(Parallelism(4, "ddp", mesh=Mesh(tensor=2))),
        whole(Parallelism(4, "ddp", model_shards=2)),
        whole(adapter=Adapter()),
        whole(quantization=Quantization("nf4")),
        whole(optimizer=Optimizer("galore_adamw")),
        whole(objective=Objective(loop="script")),
        whole(objective=Objective("inference")),
    ],
)
def test_fsdp_is_for_the_trainers_whole_models_alone(subject: Job) -> None:
    assert not FSDP.applies(subject, GPU)


def test_more_processes_keep_the_global_batch() -> None:
    subject = whole(Parallelism(2, "fsdp"), batch=replace(job().batch, gradient_accumulation_steps=8))
    for move in (launch_move(8), gpus_move(4)):
        assert move.applies(subject, GPU)
        assert move.change(subject).batch.gradient_accumulation_steps == 2
        assert move.facts(subject) == {"world_size": 8, "gradient_accumulation_steps": 2}
    assert launch_move(8).facts(whole()) == {"world_size": 8}


def test_an_evaluation_is_made_smaller_by_divisors() -> None:
    subject = replace(job(), evaluation=Evaluation(12))
    options = next(axis.options for axis in axes_of(subject, ()) if axis.name == "evaluation-batch")
    assert all(option.move.applies(subject, GPU) for option in options)
    changed = [option.move.change(subject).evaluation for option in options]
    assert [evaluation.micro_batch_size for evaluation in changed if evaluation] == [6, 4, 3, 2, 1]
    assert [option.move.facts(subject)["eval_micro_batch_size"] for option in options] == [6, 4, 3, 2, 1]
