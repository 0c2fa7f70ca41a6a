"""Text that bash reads: a script, or a string that it put together itself and reads as a command."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from msgspec import Struct, field

from vramlint.patterns import lazy
from vramlint.text import Document, Place


class Source(Struct, eq=False):
    """A script. Offsets count the characters of `text`; lines end at LF."""

    document: Document
    text: str

    @classmethod
    def of(cls, document: Document) -> Source:
        """The script without carriage returns; lines and columns stay what they are in the file."""
        if "\r" in document.text:
            document = Document.of(document.path, document.text.replace("\r\n", "\n"))
        return cls(document, document.text)

    def via(self, index: int) -> str:
        """By which road the text at `index` came."""
        return "shell"

    def origin(self, start: int, end: int) -> Range:
        """Where `text[start:end]` is written."""
        return Range(self, start, end)

    def place(self, start: int, end: int) -> Place:
        """The place of `text[start:end]`."""
        return Place(self.document.path, self.document.span(start, end))


class Range(NamedTuple):
    """`source.text[start:end]`."""

    source: Source
    start: int
    end: int


class Composed(Source, eq=False):
    """The argument of `eval` or `bash -c`: pieces that are written in several places."""

    offsets: list[int] = field(default_factory=list)
    ranges: list[Range] = field(default_factory=list)
    roads: list[str] = field(default_factory=list)

    def via(self, index: int) -> str:
        """By which road the piece at `index` came."""
        return self.roads[max(bisect_right(self.offsets, index) - 1, 0)] if self.roads else "shell"

    def origin(self, start: int, end: int) -> Range:
        """Where the text is written: exactly, if one literal holds all of it, else from its first piece on."""
        index = max(bisect_right(self.offsets, start) - 1, 0)
        offset, (source, first, last) = self.offsets[index], self.ranges[index]
        following = self.offsets[index + 1] if index + 1 < len(self.offsets) else len(self.text)
        if last - first != following - offset:
            return source.origin(first, last)
        return source.origin(first + start - offset, min(first + end - offset, last))

    def place(self, start: int, end: int) -> Place:
        """The place where `text[start:end]` is written."""
        source, first, last = self.origin(start, end)
        return source.place(first, last)


_FOREIGN = lazy(r"[^\x01-\x7f]")
_EMPTY_CONTINUATION = lazy(r"\\\n(?=[ \t]*(?:\n|\Z))")
_LAST_CONTINUATION = lazy(r"\\[ \t]*\n?[ \t]*\Z")


def parsable(text: str) -> bytes:
    """The text for the grammar, character by character one byte.

    What the grammar stumbles over and bash does not is neutral in it: letters outside of ASCII, and a continuation
    that continues nothing.
    """
    if not text.isascii() or "\0" in text:
        text = _FOREIGN.sub(".", text)
    if "\\" in text:
        text = _EMPTY_CONTINUATION.sub(" \n", text)
        text = _LAST_CONTINUATION.sub(lambda match: match[0].replace("\\", " "), text)
    return text.encode("ascii")
