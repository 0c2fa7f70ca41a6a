"""Rules against their own examples: every example that fails has to make its rule speak, and none that passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from vramlint.api import Hardware, SourceFile, Surroundings, UnknownGpuError, lint
from vramlint.discovery.forms import form_of
from vramlint.engine.rule import Example, Rule
from vramlint.engine.rule_reader import Path, did_you_mean
from vramlint.engine.selection import RuleSet, UnknownRuleError
from vramlint.findings import Finding
from vramlint.settings import Settings
from vramlint.settings.keys import read_keys
from vramlint.text import Place, Span
from vramlint.values import Entry, Scalar, Table


class ExampleError(ValueError):
    """An example that cannot be checked: a setting or a GPU that does not exist."""


class Contradiction(NamedTuple):
    """An example that is not what it says."""

    at: Path
    """Its key in the rule's file."""
    message: str


def findings_on(example: Example, rules: RuleSet) -> tuple[Finding, ...]:
    """The findings on an example, by optional rules too, unless its settings select some.

    Its first file is the one that is checked, the others lie beside it.

    Raises:
        ExampleError: a setting or a GPU of the example does not exist.
    """
    rules = RuleSet(tuple(replace(rule, optional=False) for rule in rules.rules))
    files = {path: text.encode() for path, text in example.files}
    around = Surroundings(load=files.get, names=lambda _folder: tuple(files), hardware=Hardware(gpu=example.gpu))
    path, data = next(iter(files.items()))
    try:
        report = lint([SourceFile(path, form_of(path), data, True)], settings_of(example), rules, around)
    except (UnknownGpuError, UnknownRuleError) as error:
        raise ExampleError(str(error)) from None
    return report.findings


def settings_of(example: Example) -> Settings:
    """The settings that an example is checked with.

    Raises:
        ExampleError: a key that settings do not have, or a value that it does not take.
    """
    place = Place("settings", Span(1, 1, 1, 1))
    entries = tuple(Entry(key, place, Scalar(value, place)) for key, value in example.settings)
    fields, _, problems = read_keys(Table(entries, place), place.path)
    if problems:
        raise ExampleError(problems[0].message)
    return Settings().merged(**fields)


def contradictions(rule: Rule, rules: RuleSet) -> Iterator[Contradiction]:
    """The examples of a rule that are not what they say, among all `rules`."""
    for kind, examples in (("fail", rule.failing), ("pass", rule.passing)):
        for number, example in enumerate(examples):
            at: Path = ("examples", kind, number)
            try:
                codes = frozenset(finding.code for finding in findings_on(example, rules))
            except ExampleError as error:
                yield Contradiction(at, str(error))
                continue
            if (rule.code in codes) is not (kind == "fail"):
                verb = "is silent about" if kind == "fail" else "speaks about"
                yield Contradiction(at, f"{rule.name} {verb} the example")
            yield from (Contradiction((*at, "instead"), told) for told in _silent(example, codes, rules))


def _silent(example: Example, codes: frozenset[str], rules: RuleSet) -> Iterator[str]:
    """What is wrong about the rules that an example says to speak in the rule's place."""
    for name in example.instead:
        other = rules.find(name)
        if other is None:
            yield f"unknown rule {name!r}{did_you_mean(name, [known.name for known in rules.rules])}"
        elif other.code not in codes:
            yield f"{name} is silent about the example"
