"""Whether the sequence length is reached, or bounds samples that may be shorter."""

from __future__ import annotations

import pytest

from vramlint.facts import Candidate, Fact, FactValue, Origin
from vramlint.resolve.lengths import declared_longest, varies


def facts(**values: FactValue) -> dict[str, Fact]:
    return {name: Fact(name, (Candidate(value),), Origin.WRITTEN) for name, value in values.items()}


@pytest.mark.parametrize("objective", ["dpo", "kto", "orpo", "cpo", "reward"])
def test_pairs_are_never_joined(objective: str) -> None:
    assert varies(facts(sequence_length=2048, objective=objective))


def test_samples_that_nothing_joins_or_fills_stay_below_the_length() -> None:
    bounded = facts(sequence_length=2048, packing=False)
    assert varies(bounded)
    for reaching in (
        facts(packing=True),
        facts(pad_to_maximum=True),
        facts(tokens_per_batch=8192),
    ):
        assert not varies({**bounded, **reaching})


def test_where_nothing_says_how_rows_are_made_they_reach_it() -> None:
    assert not varies(facts(sequence_length=2048))
    assert not varies(facts(packing=False))


@pytest.mark.parametrize("via", ["comment", "settings"])
def test_a_declared_length_is_reached(via: str) -> None:
    declared = Fact("sequence_length", (Candidate(2048),), Origin.WRITTEN, via=via)
    assert not varies({**facts(packing=False), "sequence_length": declared})


def test_an_assumed_length_is_a_range_already() -> None:
    assumed = Fact("sequence_length", (Candidate(64), Candidate(8192)), Origin.ASSUMED)
    assert not varies({**facts(packing=False), "sequence_length": assumed})


@pytest.mark.parametrize(
    ("longest", "beside", "wins"),
    [
        (512, {}, True),
        (512, {"packing": False}, True),
        (512, {"packing": True}, False),
        (512, {"pad_to_maximum": True}, False),
        (2048, {}, False),
        (4096, {}, False),
    ],
)
def test_what_people_declare_of_their_samples(longest: int, beside: dict[str, FactValue], wins: bool) -> None:
    own, declared = (facts(sequence_length=length)["sequence_length"] for length in (2048, longest))
    assert declared_longest(own, declared, facts(**beside)) is wins


def test_of_other_facts_the_files_win() -> None:
    own, declared = (facts(micro_batch_size=size)["micro_batch_size"] for size in (8, 2))
    assert not declared_longest(own, declared, {})
