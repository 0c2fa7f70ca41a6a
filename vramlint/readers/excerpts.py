"""Text cut out of a document and put together anew, with the way back to where each part of it is written.

A shell command in a YAML scalar, a recipe of a Makefile: what a reader of another language is given starts at column 1,
has its escapes undone and its variables expanded. What that reader then says of places is moved back.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from vramlint.text import Document, Place, Span
from vramlint.values import (
    Alternatives,
    Call,
    Command,
    Entry,
    Items,
    Keyword,
    Name,
    Option,
    Scalar,
    Shell,
    Table,
    Unknown,
    Value,
    WrittenFile,
)

_MARK = "#"
"""Behind the path of an excerpt's own document, so that its places are told from those of the source."""


class Piece(NamedTuple):
    """A part of an excerpt."""

    text: str
    start: int
    """Where it is written: an offset into the source."""
    end: int
    """Equal to `start` plus its length where it is copied as it stands."""
    site: tuple[int, int] | None = None
    """For an expanded variable: what stands in the command for it, while `start` is where its value is written."""


class Excerpt(Struct, frozen=True):
    """A text made of pieces of `source`."""

    source: Document
    pieces: tuple[Piece, ...]
    document: Document
    starts: tuple[int, ...]
    """Where each piece starts in the text."""

    @classmethod
    def of(cls, source: Document, pieces: Iterable[Piece]) -> Excerpt:
        """The excerpt that consists of the pieces, empty ones left out."""
        kept = tuple(piece for piece in pieces if piece.text)
        starts: list[int] = []
        total = 0
        for piece in kept:
            starts.append(total)
            total += len(piece.text)
        document = Document.of(source.path + _MARK, "".join(piece.text for piece in kept))
        return cls(source, kept, document, tuple(starts))

    @property
    def text(self) -> str:
        """The text as a reader is given it."""
        return self.document.text

    def cut(self, start: int, end: int) -> Iterator[Piece]:
        """The pieces of `text[start:end]`."""
        for number in range(max(bisect_right(self.starts, start) - 1, 0), len(self.pieces)):
            piece, at = self.pieces[number], self.starts[number]
            if at >= end:
                return
            before, after = max(start - at, 0), min(end - at, len(piece.text))
            if piece.end - piece.start != len(piece.text):
                yield piece._replace(text=piece.text[before:after])
            else:
                yield Piece(piece.text[before:after], piece.start + before, piece.start + after, piece.site)

    def site(self, start: int, end: int) -> tuple[int, int]:
        """The source's offsets of `text[start:end]` as it stands in the command."""
        pieces = [piece.site or (piece.start, piece.end) for piece in self.cut(start, end)]
        return (pieces[0][0], max(pieces[-1][1], pieces[0][0])) if pieces else (0, 0)

    def written(self, place: Place | None) -> Place | None:
        """Where the value that the reader found at `place` is written.

        A word that joins text of the command with an expanded variable is written where the variable is.
        """
        if place is None or place.path != self.document.path:
            return place
        first, last = self._pieces(place)
        if first == last or not self.pieces:
            return self._place(place, first, last)
        expanded = [number for number in range(first, last + 1) if self.pieces[number].site]
        if expanded:
            piece = self.pieces[expanded[-1]]
            return Place(self.source.path, self.source.span(piece.start, piece.end))
        return self._place(place, first, last)

    def stands(self, place: Place) -> Place:
        """Where in the source's command stands what the reader found at `place`."""
        if place.path != self.document.path:
            return place
        first, last = self._pieces(place)
        return self._place(place, first, last, sites=True)

    def _place(self, place: Place, first: int, last: int, *, sites: bool = False) -> Place:
        if not self.pieces:
            return Place(self.source.path, self.source.span(0, 0))
        start, end = self._offsets(place.span)
        before = self._back(first, start, sites)[0]
        after = self._back(last, max(end - 1, start), sites)[1] if end > start else before
        return Place(self.source.path, self.source.span(before, max(before, after)))

    def _back(self, number: int, offset: int, sites: bool) -> tuple[int, int]:
        """The source's offsets of one character of the text."""
        piece = self.pieces[number]
        if sites and piece.site:
            return piece.site
        if piece.end - piece.start == len(piece.text):
            at = piece.start + min(offset - self.starts[number], len(piece.text) - 1)
            return at, at + 1
        return piece.start, piece.end

    def _pieces(self, place: Place) -> tuple[int, int]:
        start, end = self._offsets(place.span)
        first = max(bisect_right(self.starts, start) - 1, 0)
        return first, max(bisect_right(self.starts, max(end - 1, start)) - 1, 0)

    def _offsets(self, span: Span) -> tuple[int, int]:
        return self.document.offset(span.line, span.column), self.document.offset(span.end_line, span.end_column)


def joined(source: Document, parts: Iterable[Excerpt], between: str = "\n") -> Excerpt:
    """Several excerpts of one source as one."""
    pieces: list[Piece] = []
    for part in parts:
        if pieces:
            end = pieces[-1].end
            pieces.append(Piece(between, end, end))
        pieces += part.pieces
    return Excerpt.of(source, pieces)


def moved_shell(shell: Shell, excerpt: Excerpt) -> Shell:
    """What a shell reader says of an excerpt, with the places of the source."""
    return replace(
        shell,
        path=excerpt.source.path,
        commands=tuple(_command(command, excerpt) for command in shell.commands),
        files=tuple(_file(file, excerpt) for file in shell.files),
        headers=_entries(shell.headers, excerpt),
    )


def moved(value: Value, excerpt: Excerpt) -> Value:
    """A value that was read from an excerpt, with the places of the source; places elsewhere stay."""
    place = excerpt.written(value.place)
    match value:
        case Items(values=values):
            return Items(tuple(moved(item, excerpt) for item in values), place)
        case Table(entries=entries):
            return Table(_entries(entries, excerpt), place)
        case Alternatives(options=options):
            return Alternatives(tuple(Option(moved(o.value, excerpt), o.condition) for o in options), place)
        case Call():
            args = tuple(moved(item, excerpt) for item in value.args)
            keywords = tuple(Keyword(word.name, moved(word.value, excerpt)) for word in value.keywords)
            return replace(value, args=args, keywords=keywords, place=place or value.place)
        case Scalar() | Name() | Unknown():
            return replace(value, place=place)


def _entries(entries: tuple[Entry, ...], excerpt: Excerpt) -> tuple[Entry, ...]:
    return tuple(Entry(entry.key, excerpt.written(entry.key_place), moved(entry.value, excerpt)) for entry in entries)


def _command(command: Command, excerpt: Excerpt) -> Command:
    return replace(
        command,
        words=tuple(moved(word, excerpt) for word in command.words),
        word_places=tuple(excerpt.stands(place) for place in command.word_places),
        place=excerpt.stands(command.place),
        environment=_entries(command.environment, excerpt),
        folder=None if command.folder is None else moved(command.folder, excerpt),
    )


def _file(file: WrittenFile, excerpt: Excerpt) -> WrittenFile:
    document = None if file.document is None else _laid_back(file.document, excerpt)
    return replace(file, name=moved(file.name, excerpt), document=document, place=excerpt.stands(file.place))


def _laid_back(document: Document, excerpt: Excerpt) -> Document:
    """A document that holds part of an excerpt at its lines and columns, laid where these are in the source."""
    lines: list[str] = []
    last = len(excerpt.document.line_starts)
    for number, text in enumerate(document.text.split("\n"), 1):
        kept = text.strip()
        if not kept or number > last:
            continue
        at = len(text) - len(text.lstrip())
        at = min(excerpt.document.offset(number, at + 1), max(len(excerpt.text) - 1, 0))
        place = excerpt.stands(Place(excerpt.document.path, excerpt.document.span(at, at + 1)))
        line, column = place.span.line, place.span.column
        lines += [""] * (line - len(lines))
        lines[line - 1] = lines[line - 1].ljust(column - 1) + kept
    return Document.of(excerpt.source.path, "\n".join(lines) + "\n")
