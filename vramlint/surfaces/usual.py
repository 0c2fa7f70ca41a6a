"""Finds usual keys in a file with sections of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from vramlint.catalog.models import find_model
from vramlint.catalog.usual_keys import (
    BY_THE_TRAINER,
    ELSEWHERE,
    OF_LANGUAGE_MODELS,
    SIZES,
    SWITCHES,
    TRAINS,
    USUAL,
    Usual,
)
from vramlint.values import Entry, Items, Scalar, Table

_DEEPEST = 5
_EVALUATION = ("eval", "valid")
_LEAST = 5
"""Keys with a known meaning that make a file such a configuration."""


class Found(NamedTuple):
    """A key that is known."""

    path: str
    """Dotted."""
    entry: Entry
    usual: Usual


def leaves(table: Table, sections: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Entry]]:
    """Every key that holds no table, with the tables around it."""
    for entry in table:
        if isinstance(entry.value, Table):
            if len(sections) < _DEEPEST:
                yield from leaves(entry.value, (*sections, entry.key))
        elif not (isinstance(entry.value, Items) and any(isinstance(item, Table) for item in entry.value.values)):
            yield sections, entry


def usual_keys(table: Table, rows: Iterable[Usual] = USUAL) -> dict[str, list[Found]]:
    """The keys of a file by what they say, the most telling first."""
    ranked: dict[str, list[tuple[tuple[int, int, int], Found]]] = {}
    known = _by_name(tuple(rows))
    for sections, entry in leaves(table):
        inside = [_plain(section) for section in sections]
        if ELSEWHERE.intersection(inside):
            continue
        evaluates = any(word.startswith(_EVALUATION) for word in inside)
        for rank, place, usual in known.get(_plain(entry.key), ()):
            if usual.sections and not usual.sections.intersection(inside[-1:]):
                continue
            if evaluates and not usual.fact.startswith("eval"):
                continue
            found = Found(".".join((*sections, entry.key)), entry, usual)
            ranked.setdefault(usual.fact, []).append(((rank, place, len(sections)), found))
    return {fact: [found for _, found in sorted(items, key=lambda item: item[0])] for fact, items in ranked.items()}


@cache
def _by_name(rows: tuple[Usual, ...]) -> dict[str, list[tuple[int, int, Usual]]]:
    found: dict[str, list[tuple[int, int, Usual]]] = {}
    for rank, usual in enumerate(rows):
        for place, name in enumerate(usual.names):
            found.setdefault(name, []).append((rank, place, usual))
    return found


def _plain(key: str) -> str:
    return key.lower().replace("-", "_")


def telling_keys(table: Table) -> tuple[str, ...]:
    """The keys that make a file a training configuration of somebody's own; empty where they do not."""
    found = usual_keys(table)
    trains = training_keys(table)
    language = OF_LANGUAGE_MODELS & found.keys() or any(map(_is_known, found.get("model", ())))
    sizes = usual_keys(table, SIZES)
    whole = "model" in found or len(sizes) > 2
    adapter = [fact for fact in found if fact.startswith("lora_")]
    if len(found) + len(trains) < _LEAST or not language:
        return ()
    part = trains >= BY_THE_TRAINER or ("model" in found and "quantization_bits" in found)
    if not (whole and trains) and len(adapter) < 3 and not part:
        return ()
    return tuple([items[0].path for items in found.values()])


def _is_known(found: Found) -> bool:
    """Whether a value is the full name of a language model that the catalog has."""
    value = found.entry.value
    return isinstance(value, Scalar) and "/" in str(value.value) and find_model(str(value.value)) is not None


def training_keys(table: Table) -> frozenset[str]:
    """The keys that show that something is trained."""
    return TRAINS & {_plain(entry.key) for _, entry in leaves(table)}


def switched(table: Table) -> Found | None:
    """The key that turns adapters on or off."""
    return next(iter(usual_keys(table, SWITCHES).get("tuning", ())), None)
