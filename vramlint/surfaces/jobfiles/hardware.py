"""Facts about the machine that a job file asks for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from vramlint.catalog.instances import gpus_of, machine_of
from vramlint.facts import Candidate, Fact, Origin
from vramlint.text import Place
from vramlint.values import Alternatives, Scalar, Unknown, Value

VIA = "job-file"


def written(name: str, choices: Iterable[tuple[str | int, Place | None]], key: str) -> Fact:
    """A fact whose possible values the file states, equal ones once."""
    seen: dict[str | int, Candidate] = {}
    for value, place in choices:
        seen.setdefault(value, Candidate(value, place))
    return Fact(name, tuple(seen.values()), Origin.WRITTEN, key, VIA)


def unknown(name: str, reason: str, key: str) -> Fact:
    """A fact that the file leaves to run time."""
    return Fact(name, (), Origin.UNKNOWN, key, VIA, reason=reason)


def gpu(value: Value | None, key: str, vocabulary: str = "") -> tuple[Fact, ...]:
    """The declared GPU; several candidates where its name fits several devices."""
    return _each("gpu", value, key, lambda name: gpus_of(name, vocabulary), "is no GPU that the catalog knows")


def count(name: str, value: Value | None, key: str) -> tuple[Fact, ...]:
    """A number of GPUs or machines."""
    return _each(name, value, key, _number, "is no number")


def machine(value: Value | None, key: str) -> tuple[Fact, ...]:
    """GPU and GPUs per machine of a cloud's machine type; nothing for one without GPUs."""
    pairs = [(machine_of(text), place) for text, place in texts(value) if isinstance(text, str)]
    known = [(found, place) for found, place in pairs if found is not None]
    if isinstance(value, Unknown):
        return (unknown("gpu", value.reason, key),)
    if not known or len(known) < len(pairs):
        return ()
    return (
        written("gpu", ((found.gpu, place) for found, place in known), key),
        written("gpus_per_node", ((found.gpus, place) for found, place in known), key),
    )


def texts(value: Value | None) -> list[tuple[str | Unknown, Place | None]]:
    """What a value may be, as text with its place."""
    match value:
        case Scalar(value=None) | None:
            return []
        case Scalar():
            return [(str(value.value), value.place)]
        case Alternatives(options=options):
            return [text for option in options for text in texts(option.value)]
        case Unknown():
            return [(value, value.place)]
        case _:
            return []


def named(word: str, place: Place | None, key: str, vocabulary: str = "") -> tuple[Fact, ...]:
    """GPU and count of one word: `A100:8`, `gpu:h100:4`, `8`, `A100-80GB`."""
    match = re.fullmatch(r"(?:gpu[:=])?(?P<name>[^:]*?)(?::(?P<count>\d+))?(?:\(.*\))?", word.strip())
    if match is None:
        return ()
    if match["name"].isdigit():
        return count("gpus_per_node", Scalar(match["name"], place), key)
    facts = gpu(Scalar(match["name"], place), key, vocabulary) if match["name"] not in ("", "gpu") else ()
    return (*facts, *(count("gpus_per_node", Scalar(match["count"], place), key) if match["count"] else ()))


def one_of_each(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """The first fact of each name; a known one comes before one that isn't."""
    chosen: dict[str, Fact] = {}
    for fact in facts:
        if fact.name not in chosen or (not chosen[fact.name].candidates and fact.candidates):
            chosen[fact.name] = fact
    return tuple(chosen.values())


def any_of(choices: Sequence[Iterable[Fact]]) -> tuple[Fact, ...]:
    """The facts of a machine that is one of several: the candidates of all; unknown where a choice doesn't know."""
    if len(choices) == 1:
        return tuple(choices[0])
    found: dict[str, list[Fact]] = {}
    for facts in choices:
        for fact in facts:
            found.setdefault(fact.name, []).append(fact)
    return tuple(_joined(facts, len(choices)) for facts in found.values())


def _joined(facts: list[Fact], choices: int) -> Fact:
    blank = next((fact for fact in facts if not fact.candidates), None)
    if blank is not None:
        return blank
    first = facts[0]
    if len(facts) < choices:
        return unknown(first.name, "one of several machines, not all of which say", first.key)
    every = [(candidate.value, candidate.place) for fact in facts for candidate in fact.candidates]
    return written(first.name, [(value, place) for value, place in every if isinstance(value, str | int)], first.key)


def _each(
    name: str, value: Value | None, key: str, meaning: Callable[[str], Sequence[str | int]], complaint: str
) -> tuple[Fact, ...]:
    found: list[tuple[str | int, Place | None]] = []
    for text, place in texts(value):
        if isinstance(text, Unknown):
            return (unknown(name, text.reason, key),)
        several = meaning(text)
        if not several:
            return (unknown(name, f"`{text}` {complaint}", key),)
        found += ((each, place) for each in several)
    return (written(name, found, key),) if found else ()


def _number(text: str) -> tuple[int, ...]:
    return (int(text),) if re.fullmatch(r"\d{1,6}", text.strip()) else ()
