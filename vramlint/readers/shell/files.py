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
    document = None if draft.pieces is None else _document(draft.pieces, at)
    return WrittenFile(name, document, at.source.place(at.start, at.end), draft.after)


def _document(pieces: Pieces, at: Range) -> Document:
    """The text at its lines and columns; behind a value that is longer or shorter than its reference columns move."""
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
        lines.put(*source.document.position(start), _text(piece))
    return Document.of(document.path, lines.joined())


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


class _Lines:
    """Lines of a text, each with the columns that stand in front of it in the script."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.margins: list[int] = []
        self.line = -1

    def put(self, line: int, column: int, text: str) -> None:
        """Write at a line and column, both from 1; behind what is there already where that reaches further."""
        line = max(line - 1, self.line)
        for index, part in enumerate(text.split("\n")):
            target = line + index
            while len(self.text) <= target:
                self.text.append("")
                self.margins.append(0)
            if not self.text[target] and part and not index:
                self.margins[target] = column - 1
            self.text[target] += part
            self.line = target

    def joined(self) -> str:
        """The text. Margins count where they are one for all lines, or where indentation says nothing, as in JSON."""
        margins = {margin for margin, text in zip(self.margins, self.text, strict=True) if text}
        content = "".join(self.text).lstrip()
        if len(margins) > 1 and not content.startswith(("{", "[")):
            lines = self.text
        else:
            lines = [" " * m + text if text else "" for m, text in zip(self.margins, self.text, strict=True)]
        return "\n".join(lines) + ("\n" if lines and lines[-1] else "")
