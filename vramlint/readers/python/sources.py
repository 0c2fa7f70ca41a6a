"""The files and parts of files that a program consists of, by the nodes in them."""

from __future__ import annotations

import libcst as cst

from vramlint.readers.python.source import Source
from vramlint.text import Place


class Sources:
    """Where nodes stand."""

    def __init__(self, script: Source) -> None:
        self._script = script
        self._parts: dict[int, Source] = {}
        self._last = script
        """Where the last node stood: the next one mostly stands there too."""

    def add(self, source: Source) -> None:
        """Statements of another file that are about to run."""
        self._parts |= dict.fromkeys(source.identities, source)

    def of(self, node: cst.CSTNode) -> Source:
        """The file, or its part, that an expression stands in."""
        last = self._last
        if not last.holds(node):
            script = self._script
            last = self._last = script if script.holds(node) else self._parts.get(id(node), script)
        return last

    def place(self, node: cst.CSTNode) -> Place:
        """Where an expression stands."""
        return self._last.places.get(id(node)) or self.of(node).place(node)
