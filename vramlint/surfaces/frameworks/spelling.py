"""Facts in a framework's own words: which keys say a value, and what is written there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from vramlint.facts import FactValue
from vramlint.surfaces.frameworks.framework import Framework
from vramlint.values import Plain

Spelled = Mapping[str, Plain]
"""Dotted keys and what is written there; None takes a key's value away."""


def spell(framework: Framework, fact: str, value: FactValue, key: str = "") -> Spelled | None:
    """The keys that say `fact` is `value`; None where this vocabulary cannot say it.

    What the framework reads from words of its own, it spells itself; other facts by the row of the key that says them
    now, `key`, else by their first one.
    """
    own = framework.spelled.get(fact)
    if own is not None:
        return own(value)
    rows = [row for row in framework.rows if row.fact == fact]
    row = next((row for row in rows if row.key == key), rows[0] if rows else None)
    inverse = INVERSES.get(row.converter) if row else None
    written = inverse(value) if inverse else None
    return {row.key: written} if row and written is not None else None


def _flag(value: FactValue) -> Plain:
    return value if isinstance(value, bool) else None


def _count(value: FactValue) -> Plain:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: FactValue) -> Plain:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: FactValue) -> Plain:
    return value if isinstance(value, str) and value else None


def _bits(bits: int) -> Callable[[FactValue], Plain]:
    return lambda value: value == bits if isinstance(value, int) and not isinstance(value, bool) else None


INVERSES: Mapping[str, Callable[[FactValue], Plain]] = MappingProxyType(
    {
        "flag": _flag,
        "switch": _flag,
        "not": lambda value: not value if isinstance(value, bool) else None,
        "count": _count,
        "elements": _count,
        "bound": _count,
        "number": _number,
        "text": _text,
        "name": _text,
        "dtype": _text,
        "names": _text,
        "device": _text,
        "four-bit": _bits(4),
        "eight-bit": _bits(8),
        "lora-or-full": lambda value: {"lora": True, "full": False}.get(str(value)),
    }
)
"""What a key with a converter of `convert.CONVERTERS` has to hold, for it to give a value; None: it can't give that."""
