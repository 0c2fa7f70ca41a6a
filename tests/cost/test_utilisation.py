"""Parts of a card's rate that training reaches: published ranges, and those that follow from others."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from vramlint.catalog.gpus import all_gpus, gpu_row
from vramlint.cost.utilisation import CEILING, MEASURED, utilisation_of

TRAINING = [row for row in all_gpus() if (row.tflops_bf16 or row.tflops_fp16) and row.bandwidth_gbs]


@pytest.mark.parametrize("row", TRAINING, ids=lambda row: row.id)
def test_every_card_of_known_rates_has_a_range_and_says_where_it_comes_from(row):
    found = utilisation_of(row)
    assert found is not None
    assert 0.05 < found.least < found.most <= CEILING
    assert found.source


def derived(name: str, rate: float, bandwidth: float):
    row = gpu_row(name)
    assert row is not None
    plain = replace(row, id="", architecture="", tflops_bf16=rate, bandwidth_gbs=bandwidth)
    found = utilisation_of(plain)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("a100-80gb", 0.39, 0.79),  # llm-foundry, as below
        ("h100", 0.32, 0.59),
        ("v100-sxm2-32gb", 0.24, 0.51),
        ("tpu-v5e", 0.46, 0.67),
        ("tpu-v4", 0.46, 0.58),
        ("gaudi2", 0.60, 0.60),  # 260 of 432 TFLOP/s
    ],
)
def test_what_follows_from_the_balance_of_a_card_holds_what_was_published(name, least, most):
    row = gpu_row(name)
    assert row is not None
    found = derived(name, row.tflops_bf16 or row.tflops_fp16 or 0, row.bandwidth_gbs or 0)
    assert found.least <= least
    assert most <= found.most


def test_cards_of_another_balance_than_the_measured_one_have_their_own_range():
    h20, h200 = gpu_row("h20-96gb"), gpu_row("h200")
    assert h20 is not None
    assert h200 is not None
    assert utilisation_of(h200) == MEASURED["hopper"]
    found = utilisation_of(h20)
    assert found is not None
    assert found.most == CEILING


def test_a_card_without_rates_has_none():
    row = gpu_row("gtx-1080")
    assert row is not None
    assert utilisation_of(row) is None
