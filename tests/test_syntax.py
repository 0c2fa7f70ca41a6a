"""Python's parser on the texts of others. Warnings are errors in tests, so that one would show."""

from __future__ import annotations

import ast

import pytest

from vramlint import syntax

ESCAPED = r"'\d+'"


def test_nobody_is_warned_of_escapes() -> None:
    assert syntax.literal(ESCAPED) == r"\d+"
    assert ast.unparse(syntax.expression(f"f({ESCAPED})")) == r"f('\\d+')"
    assert ast.unparse(syntax.module(f"x = {ESCAPED}\n")) == r"x = '\\d+'"


@pytest.mark.parametrize("text", ["f(", "x\0", "(" * 500 + ")" * 500, ""])
def test_what_python_does_not_take(text: str) -> None:
    assert syntax.term(text) is None
    with pytest.raises(syntax.UNPARSED):
        syntax.expression(text)
    with pytest.raises(syntax.UNPARSED):
        syntax.literal(text)


def test_trees_are_kept() -> None:
    assert syntax.tree("x = 1\n") is syntax.tree("x = 1\n")
    assert syntax.tree("x = (\n") is None
    assert isinstance(syntax.term("f(1)"), ast.Call)
