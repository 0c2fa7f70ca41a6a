"""Numbers of GPUs, machines and processes, read from text, multiplied and spread."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product

from msgspec.structs import replace

from vramlint.facts import Candidate, Fact, FactValue, Origin
from vramlint.surfaces.draft import distinct, unknown

_MOST = 8
"""Candidates that a product may have; more are cut to the least and the greatest."""


Convert = Callable[[str], "tuple[int, ...] | str"]
"""From a text to all numbers that it allows, or to the reason why it says none."""


def whole(text: str) -> tuple[int, ...] | str:
    """A whole number above zero."""
    return (int(text),) if re.fullmatch(r"0*[1-9]\d{0,6}", text.strip()) else f"{text!r} is no number of processes"


def elastic(text: str) -> tuple[int, ...] | str:
    """Torchrun's number of machines: `4`, or `1:4` for any between."""
    found: list[int] = []
    for part in text.split(":", 1):
        number = whole(part)
        if isinstance(number, str):
            return number
        found += number
    return tuple(found)


def devices(text: str) -> tuple[int, ...] | str:
    """The number of devices in a list such as `0,1,3` (CUDA_VISIBLE_DEVICES, `--gpu_ids`)."""
    listed = [item for item in text.strip().strip("\"'").split(",") if item.strip()]
    if not listed or listed[0].strip() in ("-1", "all", "none", "void", "NoDevFiles"):
        return f"{text!r} lists no devices"
    return (len(listed),)


def by_default(name: str, number: int, reason: str) -> Fact:
    """What a launcher does where nothing is said."""
    return Fact(name, (Candidate(number),), Origin.DERIVED, via="code", reason=reason)


def renamed(fact: Fact, name: str) -> Fact:
    """The same number under another name."""
    return replace(fact, name=name)


def times(name: str, one: Fact, other: Fact) -> Fact:
    """The product of two numbers, as sure as the less sure of them."""
    return _combined(name, one, other, lambda left, right: left * right)


def divided(name: str, total: Fact, parts: Fact) -> Fact:
    """A total spread over parts; unknown where it does not come out even."""
    return _combined(name, total, parts, lambda left, right: left // right if right and left % right == 0 else None)


def _combined(name: str, one: Fact, other: Fact, operation: Callable[[int, int], int | None]) -> Fact:
    for fact in (one, other):
        if not fact.candidates:
            return replace(fact, name=name)
    stated = next((fact for fact in (one, other) if fact.origin is Origin.WRITTEN and not _is_one(fact)), one)
    found: list[Candidate] = []
    for left, right in product(one.candidates, other.candidates):
        number = operation(_number(left.value), _number(right.value))
        if number is None:
            return unknown(name, f"{left.value} processes do not spread evenly over {right.value} machines", stated.key)
        source = left if stated is one else right
        conditions = " and ".join(dict.fromkeys(filter(None, (left.condition, right.condition))))
        found.append(Candidate(number, source.place, conditions))
    candidates = distinct(found)
    if len(candidates) > _MOST:
        ordered = sorted(candidates, key=lambda item: _number(item.value))
        candidates = (ordered[0], ordered[-1])
    return replace(stated, name=name, candidates=candidates)


def _is_one(fact: Fact) -> bool:
    return fact.value == 1


def _number(value: FactValue) -> int:
    return value if isinstance(value, int) else 0
