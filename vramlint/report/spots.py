"""Places as people count them: by cell in notebooks, by the lines of the file otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from vramlint.report.words import printable
from vramlint.text import Cell, Document, Place, Span

Documents = Mapping[str, Document]


class Spot(NamedTuple):
    """A place in a notebook's cell, or in a file."""

    path: str
    cell: int | None
    """Number of the cell, from 1; None outside of notebooks."""
    span: Span
    """Lines count from the start of the cell."""
    file_line: int
    file_end_line: int
    """The lines of the file itself. A cell's columns stand nowhere in it: its text is escaped there."""


def spot(place: Place, documents: Documents) -> Spot:
    """Where a place is."""
    span = place.span
    document = documents.get(place.path)
    cell = document.cell(span.line) if document else None
    if cell is None:
        return Spot(place.path, None, span, span.line, span.end_line)
    up = cell.first_line - 1
    local = Span(span.line - up, span.column, span.end_line - up, span.end_column)
    return Spot(place.path, cell.number, local, _written(cell, local.line), _written(cell, local.end_line))


def where(place: Place, documents: Documents) -> str:
    """`path:line:column`, `path:cell 3:line:column`."""
    at = spot(place, documents)
    cell = "" if at.cell is None else f"cell {at.cell}:"
    return f"{printable(at.path)}:{cell}{at.span.line}:{at.span.column}"


def _written(cell: Cell, line: int) -> int:
    """The file's line with the cell's `line`; with its last one for what stands behind it."""
    return cell.file_lines[min(line, len(cell.file_lines)) - 1] if cell.file_lines else 1
