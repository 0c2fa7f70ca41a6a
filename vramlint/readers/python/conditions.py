"""Undecided conditions and how they are assumed to come out."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple


class Test(NamedTuple):
    """An undecided condition and how it is assumed to come out.

    `scope` tells equal texts of different functions apart. A silent test narrows what can be the case but
    is no condition of the calls behind it (an `assert`, a branch that only raises).
    """

    text: str
    holds: bool
    scope: int
    silent: bool = False

    def __str__(self) -> str:
        return self.text if self.holds else _negated(self.text)


@lru_cache(maxsize=4096)  # what a branch assumes stands at every call inside
def _negated(text: str) -> str:
    return f"not {text}" if text.replace(".", "").isidentifier() else f"not ({text})"


Tests = tuple[Test, ...]
"""Tests that all hold."""
