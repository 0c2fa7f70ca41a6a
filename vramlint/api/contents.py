"""What one file says."""

from __future__ import annotations

from typing import NamedTuple

from vramlint.facts import Sheet
from vramlint.values import Problem


class Contents(NamedTuple):
    """The sheets of a file, and what is wrong with it."""

    sheets: tuple[Sheet, ...] = ()
    problems: tuple[Problem, ...] = ()
    recognised: bool = True
    """False for files that are written in no vocabulary that vramlint knows, or that start nothing that trains."""
