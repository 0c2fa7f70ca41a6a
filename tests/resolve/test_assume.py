"""What stands for values that only run time knows."""

from __future__ import annotations

import pytest

from tests.resolve.making import run, script, written
from vramlint.facts import Origin
from vramlint.resolve.assume import in_words


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (
            "attribute model_name_or_path of trl.ModelConfig (line 9)",
            "command line: --model_name_or_path, an option of ModelConfig (line 9)",
        ),
        ("attribute model of own.Settings (line 9)", "attribute model of own.Settings (line 9)"),
        ("positional argument 1 of run.sh", "positional argument 1 of run.sh"),
    ],
)
def test_an_attribute_of_a_librarys_arguments_is_an_option(reason: str, said: str) -> None:
    assert in_words(reason) == said


@pytest.mark.parametrize(("adapts", "sizes"), [(True, {1, 16}), (False, {16})])
def test_a_batch_that_the_trainer_shrinks_may_be_any_down_to_one(adapts: bool, sizes: set[int]) -> None:
    found = run(
        script(
            written("run_kind", "training"),
            written("loop", "trainer"),
            written("model", "meta-llama/Llama-2-7b-hf"),
            written("micro_batch_size", 16, key="per_device_train_batch_size"),
            written("batch_adapts", adapts, key="auto_find_batch_size"),
            written("sequence_length", 1024),
        )
    )
    assert {job.batch.micro_batch_size for job in found.jobs} == sizes
    fact = next(fact for fact in found.facts if fact.name == "micro_batch_size")
    assert fact.origin is (Origin.DERIVED if adapts else Origin.WRITTEN)
