"""The files that a program consists of, by the nodes in them."""

from __future__ import annotations

import libcst as cst

from vramlint.readers.python.source import Source
from vramlint.text import Place


class Sources:
    """Where nodes stand."""

    def __init__(self, script: Source) -> None:
        self._script = script
        self._sources = [script]
        self._last = script
        """Where the last node stood: the next one mostly stands there too."""

    def add(self, source: Source) -> None:
        """Another file, of which statements are about to run."""
        if source not in self._sources:
            self._sources.append(source)

    def of(self, node: cst.CSTNode) -> Source:
        """The file that an expression stands in."""
        last = self._last
        if not last.holds(node):
            last = self._last = next((source for source in self._sources if source.holds(node)), self._script)
        return last

    def place(self, node: cst.CSTNode) -> Place:
        """Where an expression stands."""
        last, key = self._last, id(node)
        found = last.places.get(key)
        if found is None:
            found = (last if key in last.ranges else self.of(node)).place(node)
        return found
