"""The cases of a predicate notice every small change of its conditions, as a rule's examples do of its `when`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.engine.test_predicates import (
    ARRIVALS,
    EARLIER,
    GRADIENTS,
    MODELS,
    PRODUCTS,
    RANKS,
    SAMPLES,
    STAGES,
    UNEVEN,
    WHOLE_ACCUMULATED,
    WIDE,
)
from tests.rules.mutants import mutants
from vramlint.engine import predicates
from vramlint.engine.names import Scope

CASES: Mapping[str, Mapping[str, tuple[Scope, str | None]]] = {
    "batch_product_mismatch": PRODUCTS,
    "unsharded_gradients": GRADIENTS,
    "unsharded_model": MODELS,
    "whole_accumulated_gradients": WHOLE_ACCUMULATED,
    "accumulated_gradients": EARLIER,
    "rollouts_exceed": SAMPLES,
    "unquantized_arrival": ARRIVALS,
    "unbalanced_stages": STAGES,
    "uneven_ranks": RANKS,
    "uneven_secondary_partition": UNEVEN,
    "wide_secondary_partition": WIDE,
}
MODULE = ast.parse(inspect.getsource(predicates))
FUNCTIONS = {node.name: node for node in MODULE.body if isinstance(node, ast.FunctionDef)}


def test_every_predicate_has_cases() -> None:
    assert {function.__name__ for function in predicates.PREDICATES.values()} == set(CASES)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_cases_notice_every_change_of_a_condition(name: str) -> None:
    users = [user for user in CASES if user == name or name in calls(user)]
    assert users
    unnoticed = [
        change
        for changed, change in mutants(FUNCTIONS[name])
        if not about_types(change) and not any(is_noticed(user, {name: changed}) for user in users)
    ]
    assert not unnoticed, "no case notices " + "; ".join(unnoticed)


def calls(name: str) -> frozenset[str]:
    """The functions of the module that one of them calls, through others too."""
    found = {node.id for node in ast.walk(FUNCTIONS[name]) if isinstance(node, ast.Name) and node.id in FUNCTIONS}
    return frozenset(found).union(*map(calls, found))


def about_types(change: str) -> bool:
    """Whether the change takes away a test without which mypy refuses the function."""
    before, _, after = change.partition("  →  ")
    guards = ("is None", "is not None", "isinstance(")
    return any(before.count(guard) != after.count(guard) for guard in guards)


def is_noticed(name: str, changed: Mapping[str, ast.FunctionDef]) -> bool:
    predicate = built(changed)[name]
    return any(said(predicate, scope) != detail for scope, detail in CASES[name].values())


def said(predicate: Callable[[Scope], str | None], scope: Scope) -> object:
    try:
        return predicate(scope)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        return error


def built(changed: Mapping[str, ast.FunctionDef]) -> dict[str, Any]:
    """The module's names with the changed functions in the place of its own."""
    names = dict(vars(predicates))
    body = [changed.get(node.name, node) if isinstance(node, ast.FunctionDef) else node for node in MODULE.body]
    exec(compile(ast.fix_missing_locations(ast.Module(body, [])), "predicates", "exec"), names)  # noqa: S102  # our own source
    return names
