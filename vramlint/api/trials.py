"""The trials of a search over settings: each that takes other memory is a job of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from math import prod

from msgspec.structs import replace

from vramlint.catalog.frameworks import FRAMEWORKS
from vramlint.facts import Fact, Sheet
from vramlint.patterns import lazy
from vramlint.resolve.steps import SPANNING
from vramlint.values import Alternatives, Invocation, Option, Scalar, Value

MOST = 16
"""Trials that are told apart; of a larger grid, the ends of each setting, and beyond that none."""

Trial = Mapping[str, str]
"""`batch_size = 8` by name."""
Searched = Sequence[tuple[str, tuple[str, ...]]]


def trials(sheet: Sheet, searched: Searched) -> tuple[Trial, ...]:
    """The trials of which a fact differs that decides memory; none where they are too many, or all alike.

    Args:
        sheet: of the program with all values possible.
        searched: what the search varies, as `Program.searches`.
    """
    conditions = [
        candidate.condition
        for fact in _facts(sheet)
        if fact.name in SPANNING or fact.name == "model"
        for candidate in fact.candidates
    ]
    told = [
        (name, options)
        for name, options in searched
        if len(options) > 1 and any(option in condition for option in options for condition in conditions)
    ]
    if told and prod(len(options) for _, options in told) > MOST:
        told = [(name, _ends(name, options)) for name, options in told]
    if not told or prod(len(options) for _, options in told) > MOST:
        return ()
    return tuple(dict(zip((name for name, _ in told), point, strict=True)) for point in product(*(o for _, o in told)))


def _facts(sheet: Sheet) -> tuple[Fact, ...]:
    """What is said; of a framework's command line too, which is only read when its files are joined."""
    table = next((table for name, table in sheet.tables if name == sheet.kind and name in FRAMEWORKS), None)
    if table is None:
        return sheet.facts
    from vramlint.surfaces.frameworks import framework_of
    from vramlint.surfaces.frameworks.reading import read_config

    return (*sheet.facts, *read_config(framework_of(sheet.kind), sheet.path, table).facts)


def _ends(name: str, options: tuple[str, ...]) -> tuple[str, ...]:
    """The least and the largest of numbers; of words, the first and the last."""

    def size(option: str) -> float:
        return float(option.removeprefix(f"{name} = "))

    try:
        ordered = sorted(options, key=size)
    except ValueError:
        ordered = list(options)
    return (ordered[0], ordered[-1])


def sheets(sheet: Sheet, searched: Searched, read: Callable[[Trial], Sheet | None]) -> Iterator[Sheet]:
    """The sheets of all trials, each labelled with its settings; the sheet itself where there are none."""
    found = [(trial, one) for trial in trials(sheet, searched) if (one := read(trial)) is not None]
    if not found:
        yield sheet
    for trial, one in found:
        label = ", ".join(option.replace(" = ", "=").replace("'", "") for option in trial.values())
        yield replace(one, label=label)


_MULTIRUN = ("-m", "--multirun")
_CHOICES = lazy(r"([\w.@/+~-]+)=(?:choice\()?([^,()\[\]{}\"']+(?:,[^,()\[\]{}\"']+)+)\)?")


def multirun(invocation: Invocation) -> tuple[Invocation, Searched]:
    """A command line of Hydra with its sweep as alternatives, and what varies: `--multirun batch=4,8`.

    One without `--multirun` is as it is (hydra 1.1 to 1.3, _internal/core_plugins/basic_sweeper.py).
    """
    words = invocation.arguments
    if not any(isinstance(word, Scalar) and word.value in _MULTIRUN for word in words):
        return invocation, ()
    found: dict[str, tuple[str, ...]] = {}
    given: list[Value] = []
    for word in words:
        text = word.value if isinstance(word, Scalar) and isinstance(word.value, str) else ""
        match = _CHOICES.fullmatch(text)
        if match is not None and isinstance(word, Scalar):
            name, values = match[1].lstrip("+"), [value.strip() for value in match[2].split(",")]
            found[name] = tuple(f"{name} = {value}" for value in values)
            options = (Scalar(f"{match[1]}={value}", word.place, word.via) for value in values)
            given.append(Alternatives(tuple(map(Option, options, found[name]))))
        elif text not in _MULTIRUN:
            given.append(word)
    return replace(invocation, arguments=tuple(given)), tuple(found.items())


def narrowed(value: Value, trial: Trial) -> Value:
    """A word of the command line that the agent of a sweep writes, as it is in one trial."""
    if not isinstance(value, Alternatives):
        return value
    kept = tuple(option for option in value.options if option.condition in trial.values())
    if not kept:
        return value
    return kept[0].value if len(kept) == 1 else Alternatives(tuple(Option(o.value, o.condition) for o in kept))
