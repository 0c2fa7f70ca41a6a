"""Syntax errors: only what bash, too, would refuse."""

from __future__ import annotations

from vramlint.readers.shell.grammar import Parsed
from vramlint.readers.shell.source import Source
from vramlint.values import Problem

MOST = 3
"""Errors of one script: what follows the first ones often follows from them."""


def mistakes(source: Source, parsed: Parsed) -> tuple[Problem, ...]:
    """The problems of a script."""
    return tuple(
        Problem("syntax-error", message, source.place(start, end)) for start, end, message in parsed.errors[:MOST]
    )
