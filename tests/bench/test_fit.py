"""What changes promise against traced steps, and the search against all sets of changes."""

from pathlib import Path

import pytest

from bench.fit import compare
from bench.fit_deltas import MOVES, WITHIN, Pair, pairs
from bench.fit_files import of_files
from bench.fit_jobs import subjects
from tests.api.test_launching import TRAIN

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


def test_a_plan_is_held_against_its_own_job(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "train.py").write_text(TRAIN)
    for name, batch in (("a.sh", 64), ("b.sh", 128)):
        (tmp_path / name).write_text(f"python train.py --output_dir out --bf16 --per_device_train_batch_size {batch}\n")
    tally = of_files([tmp_path / "train.py"], ["4GiB"], everything=False)
    assert tally.statuses["plans"] >= 2
    assert (tally.broken, tally.crashed) == ([], [])
    assert tally.kept >= 2
    assert set(tally.each) == {f"{tmp_path / 'train.py'}@4GiB"}
