import pytest
from msgspec.structs import replace

from tests.cost.builders import estimate, gpu, job, work
from vramlint.cost.pace import pace, ratio, slowdown_between
from vramlint.job import Batch, Gpu, Job, Parallelism, Zero

KNOWN = gpu("rtx3090")
UNKNOWN = Gpu("24GiB", "24 GiB", 24 << 30, 23 << 30, None, True, 0, 0)
SMALLER = Batch(1, 128, 8)


def factor(before: Job, after: Job, recomputes: bool = False) -> float:
    rows = after.batch.micro_batch_size / before.batch.micro_batch_size
    parts = tuple(replace(part, flops=int(rows * part.flops)) for part in work(again=2 if recomputes else 0))
    found = ratio(pace(before, estimate()), pace(after, estimate(work=parts)))
    assert found is not None
    return found


@pytest.mark.parametrize("card", [KNOWN, UNKNOWN])
def test_smaller_micro_batches_read_the_weights_more_often(card: Gpu) -> None:
    before = job(gpu=card)
    assert 1 < factor(before, replace(before, batch=SMALLER)) < 2


@pytest.mark.parametrize("card", [KNOWN, UNKNOWN])
def test_recomputation_is_a_third_more_at_most(card: Gpu) -> None:
    before = job(gpu=card)
    assert 1.1 < factor(before, before, recomputes=True) < 1.5


def test_long_micro_batches_cost_nothing_to_halve() -> None:
    before = job(gpu=KNOWN, batch=Batch(64, 128, 1))
    long = tuple(replace(part, flops=4096 * part.flops) for part in work())
    half = tuple(replace(part, flops=part.flops // 2) for part in long)
    after = replace(before, batch=Batch(32, 128, 2))
    found = ratio(pace(before, estimate(work=long)), pace(after, estimate(work=half)))
    assert found == pytest.approx(1, abs=0.01)


def test_traffic_of_no_known_rate_is_named() -> None:
    alone = pace(job(gpu=UNKNOWN), estimate())
    zero = Parallelism(4, "deepspeed", Zero(stage=3))
    shared = pace(job(zero, gpu=UNKNOWN), estimate())
    assert alone is not None
    assert shared is not None
    assert (alone.left_out, shared.left_out) == (False, True)
    found = slowdown_between(alone, shared)
    assert found is not None
    assert found.left_out
    assert slowdown_between(alone, pace(job(gpu=KNOWN), estimate())) is None
    assert pace(job(gpu=KNOWN), estimate(work=())) is None
