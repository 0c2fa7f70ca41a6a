"""What edits must leave as it is: every byte outside of them, and a file that other parsers take."""

from __future__ import annotations

import ast
import json
import subprocess
from collections.abc import Sequence
from typing import Any

import tomli
import yaml

from vramlint.readers.notebook.container import Fault, read_cells
from vramlint.text import Document, Edit


def untouched(before: bytes, after: bytes, document: Document, edits: Sequence[Edit], *, notebook: bool) -> bool:
    """Whether all bytes outside of the edits are as they were; of a notebook all outside of the edited cells."""
    if notebook:
        return _cells_untouched(before.decode(), after.decode(), document, edits)
    lines = before.split(b"\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)

    def at(line: int, column: int) -> int:
        return starts[line - 1] + len(
            lines[line - 1].decode("utf-8", "surrogateescape")[: column - 1].encode("utf-8", "surrogateescape")
        )

    rest, done = after, 0
    for edit in sorted(edits, key=lambda item: item.place.span):
        span = edit.place.span
        kept = before[done : at(span.line, span.column)]
        if not rest.startswith(kept + edit.replacement.encode("utf-8", "surrogateescape")):
            return False
        rest, done = (
            rest[len(kept) + len(edit.replacement.encode("utf-8", "surrogateescape")) :],
            at(span.end_line, span.end_column),
        )
    return rest == before[done:]


def _cells_untouched(before: str, after: str, document: Document, edits: Sequence[Edit]) -> bool:
    old, new = read_cells(before), read_cells(after)
    if isinstance(old, Fault) or isinstance(new, Fault) or len(old) != len(new):
        return False
    edited = {cell.number for edit in edits if (cell := document.cell(edit.place.span.line)) is not None}

    def frame(text: str, cells: Sequence[Any]) -> list[str]:
        cuts = [(cell.start, cell.end) for cell in cells if cell.number in edited]
        return [
            text[start:end]
            for start, end in zip(
                [0, *(end for _, end in cuts)], [*(start for start, _ in cuts), len(text)], strict=True
            )
        ]

    return frame(before, old) == frame(after, new)


def parses(path: str, form: str, data: bytes) -> bool:
    """Whether a parser that is not vramlint's takes the file."""
    try:
        text = data.decode("utf-8-sig")
        match form:
            case "python":
                ast.parse(text)
            case "json" | "notebook":
                json.loads(text)
            case "yaml":
                list(yaml.safe_load_all(text))
            case "toml":
                tomli.loads(text)
            case "shell":
                return subprocess.run(["bash", "-n"], input=data, capture_output=True, check=False).returncode == 0
    except (ValueError, SyntaxError, yaml.YAMLError):
        return False
    return True
