"""Facts that a program leaves to the GPU that it finds."""

from __future__ import annotations

from vramlint.facts import Candidate, Fact, FactValue, Origin
from vramlint.text import Place

COMPUTES_IN_BFLOAT16 = "the GPU computes in bfloat16"
"""Condition of what holds on Ampere and later (torch.cuda.is_bf16_supported); resolve knows the declared GPU."""


def by_bfloat16(
    name: str, able: FactValue, other: FactValue, reason: str, key: str = "", place: Place | None = None
) -> Fact:
    """A fact that depends on whether the GPU computes in bfloat16.

    Args:
        name: of the fact.
        able: what holds on a GPU that does.
        other: what holds on any other.
        reason: why the GPU decides.
        key: which leaves it open.
        place: where that is written.
    """
    if able == other:
        return Fact(name, (Candidate(able, place),), Origin.DERIVED, key, "code", reason=reason)
    candidates = (
        Candidate(able, place, COMPUTES_IN_BFLOAT16),
        Candidate(other, place, f"not {COMPUTES_IN_BFLOAT16}"),
    )
    return Fact(name, candidates, Origin.ASSUMED, key, "runtime", reason=reason)
