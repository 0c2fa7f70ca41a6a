"""What changes promise against traced steps, and the search against all sets of changes."""

import pytest

from bench.fit import compare
from bench.fit_deltas import MOVES, WITHIN, Pair, pairs
from bench.fit_jobs import subjects

FOUND = tuple(pairs([MOVES]))


def test_enough_pairs_of_enough_changes() -> None:
    assert sum(pair.traced != 0 for pair in FOUND) >= 10
    changes = {pair.change for pair in FOUND}
    assert {"activation-checkpointing", "fused-optimizer", "8bit-optimizer", "lora", "micro-batch-4"} <= changes


@pytest.mark.parametrize("pair", FOUND, ids=lambda pair: f"{pair.before}-{pair.change}")
def test_the_promised_change_is_the_traced_one(pair: Pair) -> None:
    assert pair.error <= WITHIN


def test_the_search_finds_what_the_enumeration_finds() -> None:
    subject = next(item for item in subjects() if item.name == "Qwen/Qwen2.5-0.5B, bf16, checkpointed, a100-40gb")
    row = compare(subject, 0, most=12)
    assert row is not None
    assert row.fitting
    assert row.same, row
    assert row.simulated < row.sets
