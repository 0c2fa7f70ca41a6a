"""A rule's examples notice every small change of its condition: what no example notices, nobody has shown to be right.

Where the condition is no expression: `on` and `vocabularies` are changed the same way here, predicates in
tests/engine/test_predicate_mutants.py; which remark a reader makes of a key is the readers' own tests.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import NoneType

import pytest
from msgspec.structs import replace

from tests.rules.examples import RULES, WITHOUT_FAILING_EXAMPLE, seen
from tests.rules.mutants import mutants
from vramlint.engine.check import applies, reports
from vramlint.engine.expression import Expression, dotted
from vramlint.engine.fact_types import FACT_TYPES
from vramlint.engine.loader import builtin_directory, load_rule, rule_files
from vramlint.engine.rule import Example, Rule
from vramlint.engine.types import Kind, Type
from vramlint.facts import FactValue

POLICIES = [load_rule(path) for path in rule_files(builtin_directory().parent / "examples" / "policies")]
CONDITIONS = [pytest.param(rule, id=rule.name) for rule in (*RULES.rules, *POLICIES) if rule.when]
PREDICATES = [pytest.param(rule, id=rule.name) for rule in RULES.rules if rule.predicate]
REPORTING = [
    pytest.param(rule, id=rule.name)
    for rule in RULES.rules
    if rule.on and rule.code not in WITHOUT_FAILING_EXAMPLE and rule.code != "VRAM902"
]
"""Rules of remarks. Unused suppressions are told once all rules have spoken."""

HAVE = ("gpu.usable_bytes", "machine.ram", "machine.nvme")
"""What there is of memory: no file needs exactly as much, to the byte."""


def fires(rule: Rule, example: Example) -> bool:
    """Whether the rule by itself, whatever other rules say, speaks about the example."""
    found = seen(example)
    reported = any(reports(rule, remark) for remark in found.remarks)
    return reported or any(applies(rule, scope) is not None for scope in found.scopes)


def is_noticed(rule: Rule) -> bool:
    return not all(fires(rule, example) for example in rule.failing) or any(
        fires(rule, example) for example in rule.passing
    )


def has_memory(node: ast.AST) -> bool:
    return any(dotted(part) in HAVE for part in ast.walk(node) if isinstance(part, ast.Attribute))


@pytest.mark.parametrize("rule", CONDITIONS)
def test_the_examples_notice_every_change_of_the_condition(rule: Rule) -> None:
    assert rule.when is not None
    assert not is_noticed(rule)
    changed = mutants(rule.when.tree, fixed=has_memory)
    unnoticed = [change for tree, change in changed if not is_noticed(replace(rule, when=Expression("", tree)))]
    assert not unnoticed, "no example notices " + "; ".join(unnoticed)


@pytest.mark.parametrize("rule", CONDITIONS)
def test_a_step_that_needs_exactly_what_there_is_fits(rule: Rule) -> None:
    assert rule.when is not None
    for node in ast.walk(rule.when.tree):
        if isinstance(node, ast.Compare) and has_memory(node):
            assert not has_memory(node.left), "what there is stands on the right"
            assert all(isinstance(op, ast.Gt | ast.LtE) for op in node.ops)


@pytest.mark.parametrize("rule", REPORTING)
def test_the_examples_notice_every_change_of_what_is_reported(rule: Rule) -> None:
    assert not is_noticed(rule)
    unnoticed = [change for changed, change in restrictions(rule) if not is_noticed(changed)]
    assert not unnoticed, "no example notices " + "; ".join(unnoticed)


def restrictions(rule: Rule) -> Iterator[tuple[Rule, str]]:
    """The rule with one kind of remark less, or one vocabulary less or turned round."""
    for kinds, kind in less_one(rule.on):
        yield replace(rule, on=kinds), f"on less {kind}"
    for others, word in less_one(rule.vocabularies):
        opposite = word[1:] if word.startswith("!") else f"!{word}"
        yield replace(rule, vocabularies=others), f"vocabularies less {word}"
        yield replace(rule, vocabularies=(*others, opposite)), f"vocabularies with {opposite}"


def less_one(words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    for index, word in enumerate(words):
        yield (*words[:index], *words[index + 1 :]), word


@pytest.mark.parametrize("rule", [*CONDITIONS, *PREDICATES])
def test_the_examples_have_every_kind_of_run(rule: Rule) -> None:
    unnoticed = [kind for others, kind in less_one(rule.runs) if not is_noticed(replace(rule, runs=others))]
    assert not unnoticed, "no example that fails is of kind " + ", ".join(unnoticed)


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule.name) for rule in RULES.rules if rule.passing])
def test_silence_is_not_for_want_of_reading(rule: Rule) -> None:
    for example in rule.passing:
        assert seen(example).scopes, "no run is seen in it"


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule.name) for rule in RULES.rules])
def test_facts_are_of_the_types_that_expressions_are_held_against(rule: Rule) -> None:
    for example in (*rule.failing, *rule.passing):
        for scope in seen(example).scopes:
            assert scope.run is not None
            for fact in scope.run.facts:
                for candidate in fact.candidates:
                    assert has_type(candidate.value, FACT_TYPES[fact.name]), (fact.name, candidate.value)


def has_type(value: FactValue, type_: Type) -> bool:
    """Whether a fact's value is one that the table of types has."""
    kind = Kind.TEXTS if isinstance(value, tuple) else KINDS[type(value)]
    bounded = isinstance(value, str) and type_.values
    return kind in type_.kinds and (not bounded or value in type_.values)


KINDS: dict[type, Kind] = {
    str: Kind.TEXT,
    bool: Kind.TRUTH,
    int: Kind.NUMBER,
    float: Kind.NUMBER,
    NoneType: Kind.NULL,
}
