"""What reading a file asks of its surroundings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from vramlint.api.world import World
from vramlint.text import Document
from vramlint.values import Entry, Plain, Problem, Shell, Value

Known = Callable[[str, World], Mapping[str, Plain]]
"""Answers to what the script at a path asks at run time, on a machine."""


class Recorder:
    """File access that remembers what was there."""

    def __init__(self, load: Callable[[str], Document | None]) -> None:
        self._load = load
        self.found: dict[str, None] = {}
        """The paths of what was found, in the order in which it was asked for."""

    def __call__(self, path: str) -> Document | None:
        """The document at `path`, None where there is none."""
        document = self._load(path)
        if document is not None:
            self.found[document.path] = None
        return document


def with_written(
    load: Callable[[str], Document | None], written: Sequence[tuple[str, Document]]
) -> Callable[[str], Document | None]:
    """File access in which the files that a launcher writes itself take the place of those on disk.

    They are told by their names alone: a script's working directory is rarely known.
    """
    if not written:
        return load
    by_name = dict(written)
    return lambda path: by_name.get(path.rpartition("/")[2]) or load(path)


class Shells:
    """Reads shell text and keeps what is wrong with it."""

    def __init__(self, load: Callable[[str], Document | None]) -> None:
        self._load = load
        self.problems: list[Problem] = []

    def __call__(
        self,
        document: Document,
        environment: Sequence[Entry] = (),
        name: str = "",
        *,
        arguments: Sequence[Value] | None = None,
    ) -> tuple[Shell, tuple[Problem, ...]]:
        """What the commands of a text do when it is called with `arguments`; None: nobody says with what."""
        from vramlint.readers.shell import read_shell

        shell, problems = read_shell(document, environment, name, arguments=arguments, sources=self._load)
        self.problems += problems
        return shell, problems
