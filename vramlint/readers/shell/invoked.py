"""A command with its words expanded."""

from __future__ import annotations

from msgspec import Struct

from vramlint.readers.shell.cutting import Simple
from vramlint.readers.shell.fields import stream
from vramlint.readers.shell.pieces import Fork, Pieces, Word, known
from vramlint.readers.shell.source import Range


class Invoked(Struct, frozen=True):
    """A command about to run: `name` is empty where its first word is not known."""

    command: Simple
    at: Range
    name: str
    words: list[tuple[Word, int, int]]

    def texts(self) -> list[str | None]:
        """The arguments, None for each that is not known."""
        return [None if isinstance(item, Fork) else known(item) for item, _, _ in self.words[1:]]

    def arguments(self) -> list[Pieces]:
        """The arguments as pieces."""
        return [stream((item,)) for item, _, _ in self.words[1:]]
