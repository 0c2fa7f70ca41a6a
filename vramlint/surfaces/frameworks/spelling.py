"""Facts in a framework's own words: which keys say a value, and what is written there."""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.facts import FactValue
from vramlint.surfaces.frameworks.framework import Beside, Framework, Gone
from vramlint.surfaces.keys import KeyRow
from vramlint.surfaces.spelling import Written, spelled

Spelled = Mapping[str, Written | Gone]
"""Dotted keys and what is written there; None takes a key's value away."""


def spell(
    framework: Framework, fact: str, value: FactValue, key: str = "", around: Beside | None = None
) -> Spelled | None:
    """The keys that say `fact` is `value`; None where this vocabulary cannot say it.

    What the framework reads from words of its own, it spells itself; other facts by the row of the key that says them
    now, `key`, else by their first one.
    """
    beside = framework.spelled_beside.get(fact)
    if beside is not None and around is not None:
        return beside(value, around)
    own = framework.spelled.get(fact)
    if own is not None:
        return own(value)
    rows = [row for row in framework.rows if row.fact == fact]
    row = next((row for row in rows if row.key == key), rows[0] if rows else None)
    if row is None:
        return None
    written = spelled([KeyRow(framework.name, *row)], {fact: value}, {})
    return {row.key: written} if written is not None else None
