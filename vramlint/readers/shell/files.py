"""Files that a script writes itself, each as a document in which it stands where the script holds it."""

from __future__ import annotations

from vramlint.readers.shell import located
from vramlint.readers.shell.machine import Draft
from vramlint.readers.shell.pieces import Break, Choice, Hole, Piece, Pieces, Text, shown
from vramlint.readers.shell.source import Range
from vramlint.text import Document
from vramlint.values import WrittenFile


def written(draft: Draft) -> WrittenFile:
    """The file that a draft describes."""
    at = draft.range
    name = located.value(draft.name, at) if draft.name else located.value((Text("", at, "shell", True),), at)
    return WrittenFile(name, _document(draft.pieces, at), at.source.place(at.start, at.end))


def _document(pieces: Pieces, at: Range) -> Document:
    """The text at its lines and columns. A value that is longer than its reference moves the rest of its line."""
    refs = {piece.ref for piece in pieces if isinstance(piece, (Text, Hole))}
    through = len(refs) == 1 and None not in refs
    document = at.source.document
    lines = _Lines()
    for piece in pieces:
        if isinstance(piece, Break):
            continue
        place = _position(piece, at, through)
        source, start, _ = place.source.origin(place.start, place.end)
        document = source.document if not lines.text else document
        lines.put(*source.document.position(start), _text(piece), _width(piece, place))
    return Document.of(document.path, "\n".join(lines.text) + "\n")


def _position(piece: Piece, at: Range, through: bool) -> Range:
    """Where a piece stands: its reference in the text, or where it is written if all came by one variable."""
    if isinstance(piece, (Text, Hole)):
        return (piece.site or piece.range) if through else (piece.ref or piece.range)
    if isinstance(piece, Choice):
        return piece.ref or piece.site or at
    return at


def _text(piece: Piece) -> str:
    match piece:
        case Text():
            return piece.text
        case Hole():
            return piece.written
        case Choice():
            place = piece.ref
            return place.source.text[place.start : place.end] if place else shown((piece,))
        case _:
            return " "


def _width(piece: Piece, place: Range) -> int:
    """How wide a reference is that a shorter value is padded to."""
    return 0 if isinstance(piece, Text) and piece.ref is None else place.end - place.start


class _Lines:
    def __init__(self) -> None:
        self.text: list[str] = []
        self.line = 0

    def put(self, line: int, column: int, text: str, width: int) -> None:
        """Write at a line and column, both from 1; behind what is there already where that reaches further."""
        line = max(line - 1, self.line)
        while len(self.text) <= line:
            self.text.append("")
        self.line = line
        current = self.text[line]
        if line == self.line and len(current) < column - 1:
            current += " " * (column - 1 - len(current))
        parts = text.split("\n")
        self.text[line] = current + parts[0]
        for part in parts[1:]:
            self.line += 1
            if len(self.text) <= self.line:
                self.text.append("")
            self.text[self.line] += part
        if len(parts) == 1 and len(parts[0]) < width:
            self.text[line] += " " * (width - len(parts[0]))
