import pytest

from tests.fixes.test_plan import job
from vramlint.fixes.largest import MICRO_BATCH, SETTINGS, keeping, largest


@pytest.mark.parametrize("limit", [0, 1, 7, 8, 9, 100, 4095, 4096, 9999])
@pytest.mark.parametrize(("step", "now"), [(1, 1), (1, 300), (8, 16), (64, 8192)])
def test_it_is_the_largest(step: int, now: int, limit: int) -> None:
    tried: list[int] = []

    def fits(value: int) -> bool:
        tried.append(value)
        return value <= limit

    expected = min(limit, 4096) // step * step
    assert largest(step, now, 4096, fits) == (expected or None)
    assert len(tried) == len(set(tried)) <= 25


def test_a_larger_micro_batch_keeps_the_effective_one_where_it_can() -> None:
    before = job()
    batch = before.batch
    setting = SETTINGS[MICRO_BATCH]
    assert setting.now(before) == batch.micro_batch_size == 8
    assert setting.facts(before, 4) == {"micro_batch_size": 4, "gradient_accumulation_steps": 2}
    assert setting.facts(before, 16) == {"micro_batch_size": 16}
    assert [keeping(before, rows) for rows in (1, 3, 7, 8, 100)] == [1, 2, 4, 8, 8]
