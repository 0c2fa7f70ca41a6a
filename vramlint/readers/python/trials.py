"""Loops that are tried turn by turn, and given up as soon as it is clear that their turns must be undone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vramlint.readers.python.objects import LibraryObject

_QUIET_WORDS = """
    append debug error exception exists info isdir isfile log makedirs mkdir set_description update warn warning
    write
"""
_QUIET = frozenset(_QUIET_WORDS.split())
"""Calls that may be made once a turn without being a job of their own."""


class GivenUp(Exception):  # noqa: N818 (an outcome that unwinds the interpreter, no error)
    """The turns of a loop must be undone, so that there is no use in finishing the one at hand."""

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        self.trial = trial


class Trial:
    """One loop that is tried."""

    __slots__ = ("_calls", "_held", "_outer", "_start")

    def __init__(self, calls: list[LibraryObject], outer: Trial | None) -> None:
        """`outer` is the loop around it that is tried too."""
        self._calls = calls
        self._start = len(calls)
        self._outer = outer
        self._held = 0

    @property
    def is_loud(self) -> bool:
        """Whether the turns so far make calls of which each is a job of its own."""
        return any(call.callee.rpartition(".")[2] not in _QUIET for call in self._calls[self._start :])

    def split(self) -> None:
        """The sides of an undecided branch end differently.

        Raises:
            GivenUp: always; what happens then, only run time knows for all loops around.
        """
        trial = self
        while trial._outer is not None:
            trial = trial._outer
        raise GivenUp(trial)

    def note(self, call: LibraryObject) -> None:
        """A call was made.

        Raises:
            GivenUp: one that is a job of its own, and that nothing will take back.
        """
        if not self._held and call.callee.rpartition(".")[2] not in _QUIET:
            self._end()

    @contextmanager
    def holding(self) -> Iterator[None]:
        """What is called inside may be taken back at its end.

        Raises:
            GivenUp: it was not, and is a job of its own.
        """
        self._held += 1
        yield
        self._held -= 1
        if not self._held and self.is_loud:
            self._end()

    def _end(self) -> None:
        """Give up this loop and those around it: when its body is read once, it makes the same call."""
        trial = self
        while trial._outer is not None and not trial._outer._held:
            trial = trial._outer
        raise GivenUp(trial)
