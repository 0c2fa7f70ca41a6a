"""From a notebook's file to the document of its code cells, one below the other."""

from __future__ import annotations

from collections.abc import Iterable

from vramlint.readers.notebook.container import Fault, RawCell, read_cells
from vramlint.text import Cell, Document, Place
from vramlint.values import Problem


def notebook_document(file: Document) -> Document | Problem:
    """The document of a notebook's Python cells, as people see them; the problem when the file is no notebook.

    Each cell starts a line and ends in a line end; an empty line stands between two. Never raises on any text.
    """
    found = read_cells(file.text)
    if isinstance(found, Fault):
        at = min(found.at, len(file.text))
        place = Place(file.path, file.span(at, min(at + 1, len(file.text))))
        return Problem("syntax-error", f"no notebook: {found.message}", place)
    return gathered(file, found)


def gathered(file: Document, found: Iterable[RawCell]) -> Document:
    """The document of the Python cells among those `found` in the file."""
    texts: list[str] = []
    cells: list[Cell] = []
    line = 1
    for cell in found:
        if not cell.is_code:
            continue
        text = cell.text
        text = f"{text}\n\n" if text and not text.endswith("\n") else f"{text}\n"
        cells.append(Cell(cell.number, line, _file_lines(file, cell)))
        texts.append(text)
        line += text.count("\n")
    return Document.of(file.path, "".join(texts), tuple(cells))


def _file_lines(file: Document, cell: RawCell) -> tuple[int, ...]:
    """The line of the file in which each line of a cell starts."""
    lines: list[int] = []
    starts = True
    for piece in cell.pieces:
        if not piece.value:
            continue
        at = file.position(piece.start)[0]
        parts = piece.value.split("\n")
        lines += [at] * (len(parts) - (0 if starts else 1) - (0 if parts[-1] else 1))
        starts = not parts[-1]
    return tuple(lines)
