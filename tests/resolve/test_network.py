"""What a model's name means, and why it may mean nothing here."""

from __future__ import annotations

import pytest

from tests.resolve.making import run, script, written


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("example-org/secret-7b", "example-org/secret-7b is not in the model catalog"),
        ("merged-model", "merged-model is neither a model of the catalog nor a folder with a config.json"),
        ("./out/checkpoint-500", "./out/checkpoint-500 is neither a model"),
        ("/data/models/mine", "/data/models/mine is neither a model"),
    ],
)
def test_a_model_that_is_not_found_is_named(name: str, reason: str) -> None:
    fact = run(script(written("model", name))).get("model")
    assert fact is not None
    assert fact.reason.startswith(reason)


def test_tokenizers_of_t5_bound_what_its_positions_do_not() -> None:
    found = run(script(written("model", "google-t5/t5-small"), written("objective", "seq2seq"))).get("sequence_length")
    assert found is not None
    assert {candidate.value for candidate in found.candidates} == {64, 512}
