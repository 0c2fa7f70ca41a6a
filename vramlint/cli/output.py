"""Where the text goes."""

from __future__ import annotations

import sys
from typing import TextIO

from vramlint.cli.errors import UsageError


def write(text: str, path: str | None, stream: TextIO | None = None) -> None:
    """Write to standard output, or the stream in its place, or to a file as UTF-8 with LF.

    Raises:
        UsageError: the file can't be written.
    """
    if path is None or path == "-":
        (stream or sys.stdout).write(text)
        return
    try:
        with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None
