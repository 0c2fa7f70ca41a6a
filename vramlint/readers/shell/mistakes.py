"""Syntax errors: only what bash, too, would refuse."""

from __future__ import annotations

from collections import Counter

from vramlint.patterns import lazy
from vramlint.readers.shell.parsing import Parsed
from vramlint.readers.shell.source import Source
from vramlint.values import Problem

MOST = 3
"""Errors of one script: what follows the first ones often follows from them."""
_PAIRS = {"if": "fi", "do": "done", "case": "esac", "{": "}"}
_KEYWORD = lazy(
    r"(?:^|[\n;&|(!]|\b(?:then|do|else|elif|if|while|until)\b)[ \t]*(if|fi|case|esac|do|done|[{}])(?=[\s;&|)]|\Z)"
)


def mistakes(source: Source, parsed: Parsed) -> tuple[Problem, ...]:
    """The problems of a script.

    The grammar's own errors count where keywords do not pair up: it does not get all that bash gets.
    """
    errors = [error for error in parsed.errors if error.certain]
    if not errors and parsed.errors and _unpaired(parsed.plain):
        errors = list(parsed.errors)
    return tuple(
        Problem("syntax-error", error.message, source.place(error.start, error.end)) for error in errors[:MOST]
    )


def _unpaired(plain: str) -> bool:
    counts: Counter[str] = Counter()
    index = 0
    while match := _KEYWORD.search(plain, index):
        counts[match[1]] += 1
        index = match.end(1)
    return any(counts[opening] != counts[closing] for opening, closing in _PAIRS.items())
