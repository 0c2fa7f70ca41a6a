"""Whether every row of a batch is as long as the files say, or only as long as the longest sample of the data."""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.facts import Fact, Origin

DECLARED = frozenset({"comment", "settings"})
"""`Fact.via` of what people declare to vramlint, and no library reads."""


def varies(facts: Mapping[str, Fact]) -> bool:
    """Whether the sequence length is a bound that samples may stay below.

    It is one where samples are cut to it and padded to the longest of their batch; joined rows, and rows that are
    padded to it, reach it. Where the files show neither, the length counts as reached.
    """
    length = facts.get("sequence_length")
    if length is None or length.origin not in (Origin.WRITTEN, Origin.DEFAULT, Origin.DERIVED):
        return False
    if length.via in DECLARED or _is(facts, "pad_to_maximum", True) or "tokens_per_batch" in facts:
        return False
    return _is(facts, "packing", False) or _trains_on_pairs(facts)


def declared_longest(own: Fact, declared: Fact, facts: Mapping[str, Fact]) -> bool:
    """Whether a declared sequence length says how long samples are that the files only bound."""
    if own.name != "sequence_length" or _is(facts, "packing", True) or _is(facts, "pad_to_maximum", True):
        return False
    bound, longest = own.value, declared.value
    return isinstance(bound, int) and isinstance(longest, int) and longest < bound


_OF_PAIRS = frozenset({"dpo", "kto", "orpo", "cpo", "simpo", "reward", "bco", "nca"})


def _trains_on_pairs(facts: Mapping[str, Fact]) -> bool:
    """Whether the objective is one whose samples no trainer joins: a prompt with its answers."""
    objective = facts.get("objective")
    return objective is not None and objective.value in _OF_PAIRS


def _is(facts: Mapping[str, Fact], name: str, value: bool) -> bool:
    fact = facts.get(name)
    return fact is not None and fact.value is value
