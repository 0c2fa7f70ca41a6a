"""Exit codes and the error that ends a run early."""

from __future__ import annotations

from collections.abc import Iterable

CLEAN, FINDINGS, ERROR = 0, 1, 2
"""Exit codes: nothing at or above the threshold; something; wrong usage or an internal error."""


class UsageError(Exception):
    """The command line or a settings file asks for something that isn't there. One line, lower case."""


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`, did you mean 'full'?`, or nothing when no known word resembles the given one."""
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f", did you mean {close[0]!r}?" if close else ""
