"""Undecided conditions and how they are assumed to come out."""

from __future__ import annotations

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
        if self.holds:
            return self.text
        return f"not {self.text}" if self.text.replace(".", "").isidentifier() else f"not ({self.text})"


Tests = tuple[Test, ...]
"""Tests that all hold."""
