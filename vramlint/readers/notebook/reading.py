"""All that a notebook says: its Python, what it runs besides, and the files that it writes."""

from __future__ import annotations

from msgspec import Struct

from vramlint.readers.notebook.commands import ReadShell, run
from vramlint.readers.notebook.program import read_script
from vramlint.readers.notebook.scripts import read_cells_of_script
from vramlint.text import Document
from vramlint.values import Entry, Problem, Shell, WrittenFile


class Notebook(Struct, frozen=True):
    """A notebook, or a script with cells."""

    program: Document
    """Its Python, each line in its place."""
    shell: tuple[Shell, ...]
    """What it gives to shells, one for each `!` line, cell of bash and call, in their order."""
    files: tuple[WrittenFile, ...]
    """Those of `%%writefile`, and what its shells write."""
    environment: tuple[Entry, ...]
    """Variables that its own process sets for itself and all that it starts."""
    problems: tuple[Problem, ...]
    """Cells that could not be read."""


def read_notebook(document: Document, read_shell: ReadShell) -> Notebook:
    """What the document of a notebook, or a script with cells, does. Never raises on any text."""
    script = read_script(document) if document.cells else read_cells_of_script(document)
    ran = run(document, script, read_shell)
    return Notebook(script.program, ran.shell, ran.files, ran.environment, script.problems)
