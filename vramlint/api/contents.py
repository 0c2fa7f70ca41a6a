"""What one file says."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import NamedTuple

from vramlint.facts import Sheet
from vramlint.values import Problem


class Contents(NamedTuple):
    """The sheets of a file, and what is wrong with it."""

    sheets: tuple[Sheet, ...] = ()
    problems: tuple[Problem, ...] = ()
    recognised: bool = True
    """False for files that are written in no vocabulary that vramlint knows, or that start nothing that trains."""
    starts: tuple[tuple[Sheet, ...], ...] = ()
    """What each start of a program gave that was followed, in their order: the last ones of `sheets`."""

    def start_of(self, number: int) -> int | None:
        """Which start gave the sheet of that number; None for those of the file itself."""
        last = len(self.sheets) - sum(map(len, self.starts))
        for index, sheets in enumerate(self.starts):
            if last <= number < last + len(sheets):
                return index
            last += len(sheets)
        return None


class Again(NamedTuple):
    """What is wanted of a file that is read again, after edits."""

    starts: tuple[tuple[Sheet, ...], ...]
    """What its starts gave before, as `Contents.starts`: those that are not wanted are taken to give it again."""
    wants: Callable[[int, str], bool]
    """Whether the start of that number, of that name now, is wanted."""
    edited: Container[str]
    """The paths of the edited files."""
