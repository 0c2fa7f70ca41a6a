"""What decides that a step does not fit: gradients that FSDP keeps whole, a model that ZeRO 3 does, one stage."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.engine.builders import GIB, estimate, fact, run
from vramlint.engine.names import Scope
from vramlint.engine.predicates import (
    batch_product_mismatch,
    unbalanced_stages,
    unsharded_gradients,
    unsharded_model,
)
from vramlint.estimate import Estimate, RankPeak
from vramlint.facts import Fact, Origin
from vramlint.job import Batch, Job, Model, Parallelism, Precision, Zero

LLAMA = Model("meta-llama/Llama-2-7b-hf", "llama")


def scope(job: Job, found: Estimate, *facts: Fact) -> Scope:
    return Scope.of(run(*facts, jobs=(job,)), [found])


def fsdp(steps: int = 8, **options: object) -> Job:
    shared = replace(Parallelism(8, "fsdp"), **options)  # type: ignore[arg-type]  # tests name its fields
    return Job(LLAMA, precision=Precision("float32", "bfloat16"), parallelism=shared, batch=Batch(1, 512, steps))


WHOLE = replace(estimate(30, gradients=13, weights=17), trainable_parameters=7 * 2**30)


@pytest.mark.parametrize(
    ("job", "found", "detail"),
    [
        (fsdp(), WHOLE, "11.38 GiB"),
        (fsdp(steps=1), WHOLE, None),
        (fsdp(sync_each_batch=True), WHOLE, None),
        (fsdp(fsdp_sharding="none"), WHOLE, None),
        (fsdp(world_size=1), WHOLE, None),
        (fsdp(strategy="ddp"), WHOLE, None),
        (fsdp(), replace(WHOLE, allocated=20 * GIB), None),
        (fsdp(), replace(WHOLE, allocated=60 * GIB), None),
        (fsdp(), replace(WHOLE, method="bounded"), None),
    ],
    ids=["whole", "one step", "synchronised", "not shared", "one GPU", "ddp", "fits", "too much anyway", "bounded"],
)
def test_gradients_that_decide(job: Job, found: Estimate, detail: str | None) -> None:
    assert unsharded_gradients(scope(job, found)) == detail


def zero(stage: int = 3, distance: int = 1_000_000_000, world: int = 8) -> Job:
    shared = Parallelism(world, "deepspeed", zero=Zero(stage, max_reuse_distance=distance))
    return Job(LLAMA, precision=Precision("bfloat16"), parallelism=shared)


SMALL = replace(estimate(24), total_parameters=400_000_000)
DISTANCE = fact("max_reuse_distance", 1_000_000_000, line=3)


@pytest.mark.parametrize(
    ("job", "found", "facts", "detail"),
    [
        (zero(), SMALL, (), "0.65 GiB"),
        (zero(stage=2), SMALL, (), None),
        (zero(distance=0), SMALL, (), None),
        (zero(world=1), SMALL, (), None),
        (zero(), SMALL, (DISTANCE,), None),
        (zero(), replace(SMALL, total_parameters=600_000_000), (), None),
        (zero(), replace(SMALL, allocated=22 * GIB), (), None),
    ],
    ids=["whole", "stage 2", "released", "one GPU", "written", "large", "fits"],
)
def test_a_model_that_stays_whole(job: Job, found: Estimate, facts: tuple[Fact, ...], detail: str | None) -> None:
    assert unsharded_model(scope(job, found, *facts)) == detail


def stages(*sizes: float) -> Estimate:
    peaks = tuple([RankPeak(f"stage {number}", 1, 0, int(size * GIB)) for number, size in enumerate(sizes)])
    return replace(estimate(max(sizes)), ranks=peaks if len(peaks) > 1 else ())


@pytest.mark.parametrize(
    ("sizes", "detail"),
    [
        ((20, 8, 8, 30), "the last needs 30.00 GiB, the one next to it 8.00 GiB"),
        ((30, 10, 8, 12), "the first needs 30.00 GiB, the one next to it 10.00 GiB"),
        ((20, 30, 8, 8), None),
        ((20, 8, 8, 22), None),
        ((28, 28, 28, 30), None),
        ((30,), None),
    ],
    ids=["last", "first", "a middle one", "fits", "all are too much", "no pipeline"],
)
def test_stages_out_of_balance(sizes: tuple[float, ...], detail: str | None) -> None:
    job = Job(LLAMA, parallelism=Parallelism(8, "megatron"))
    assert unbalanced_stages(scope(job, stages(*sizes))) == detail


def test_nothing_is_said_without_a_gpu() -> None:
    without = Scope.of(run(jobs=(fsdp(),), gpu=None), [WHOLE])
    assert unsharded_gradients(without) is None
    assert unsharded_model(without) is None
    assert unbalanced_stages(without) is None


def deepspeeds(total: int, micro: int, world: int | None, *steps: int, origin: Origin = Origin.WRITTEN) -> Scope:
    facts = [
        fact("global_batch_size", total, line=2),
        fact("micro_batch_size", micro, line=3, key="train_micro_batch_size_per_gpu"),
        fact("gradient_accumulation_steps", *steps, line=4, origin=origin),
    ]
    facts += [fact("world_size", world, line=5)] if world else []
    return Scope.of(run(*facts, jobs=(Job(LLAMA),)), [])


@pytest.mark.parametrize(
    ("scope", "detail"),
    [
        (deepspeeds(64, 4, 8, 2), None),
        (deepspeeds(64, 4, 8, 1), "4 × 1 × 8 = 32, not 64"),
        (deepspeeds(64, 4, None, 2), None),
        (deepspeeds(60, 8, None, 1), "60 is no multiple of 8 × 1"),
        (deepspeeds(4096, 16, 8, 1, origin=Origin.DERIVED), None),
        (deepspeeds(96, 16, 8, 1, origin=Origin.DERIVED), "96 is no multiple of 16 × 8"),
    ],
    ids=["product", "another product", "any world", "no multiple", "accumulates the rest", "no share"],
)
def test_batch_products(scope: Scope, detail: str | None) -> None:
    assert batch_product_mismatch(scope) == detail
