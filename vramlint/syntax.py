"""Python's own parser on the texts of others, about whose escapes it would warn our users (since 3.12 by default)."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

Parsed = TypeVar("Parsed")

UNPARSED = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What the functions below raise of a text that Python does not take."""


def module(text: str) -> ast.Module:
    """The tree of a program."""
    return _quietly(ast.parse, text)


@lru_cache(maxsize=16)
def tree(text: str) -> ast.Module | None:
    """The same, kept, as each change of a plan asks for it again; None of what Python does not take."""
    try:
        return module(text)
    except UNPARSED:
        return None


def expression(text: str) -> ast.expr:
    """The tree of an expression."""
    return _quietly(lambda source: ast.parse(source, mode="eval").body, text)


@lru_cache(maxsize=64)
def term(text: str) -> ast.expr | None:
    """The same, kept as `tree` is."""
    try:
        return expression(text)
    except UNPARSED:
        return None


def literal(text: str) -> object:
    """The value of a literal."""
    return _quietly(ast.literal_eval, text)


def _quietly(parse: Callable[[str], Parsed], text: str) -> Parsed:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return parse(text)
