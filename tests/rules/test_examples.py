"""The examples of every rule are its tests: they run through the whole of vramlint."""

import pytest
from _pytest.mark.structures import ParameterSet

from tests.rules.examples import RULES, WITHOUT_FAILING_EXAMPLE, seen
from vramlint.engine.rule import Example, Rule
from vramlint.findings import Severity


def cases(kind: str) -> list[ParameterSet]:
    return [
        pytest.param(rule, example, id=f"{rule.name}-{index}")
        for rule in RULES.rules
        for index, example in enumerate(getattr(rule, kind))
    ]


@pytest.mark.parametrize(("rule", "example"), cases("failing"))
def test_the_rule_fires(rule: Rule, example: Example) -> None:
    assert rule.code in seen(example).codes


@pytest.mark.parametrize(("rule", "example"), cases("passing"))
def test_the_rule_stays_silent(rule: Rule, example: Example) -> None:
    assert rule.code not in seen(example).codes


@pytest.mark.parametrize(("rule", "example"), cases("passing"))
def test_an_example_to_follow_has_no_errors(rule: Rule, example: Example) -> None:
    found = [RULES.find(code) for code in seen(example).codes]
    errors = {other.name for other in found if other is not None and other.severity is Severity.ERROR}
    assert errors <= set(example.instead)


@pytest.mark.parametrize(("rule", "example"), [*cases("failing"), *cases("passing")])
def test_what_speaks_instead_does(rule: Rule, example: Example) -> None:
    named = {other.code if (other := RULES.find(name)) else name for name in example.instead}
    assert named <= seen(example).codes


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule.name) for rule in RULES.rules if rule.fixes])
def test_a_fix_of_its_own_is_made_in_some_example(rule: Rule) -> None:
    assert any(rule.code in seen(example).edited for example in rule.failing)


def test_every_rule_has_examples() -> None:
    for rule in RULES.rules:
        assert rule.code in WITHOUT_FAILING_EXAMPLE or (rule.failing and rule.passing), rule.code
