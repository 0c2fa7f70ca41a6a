"""Shell scripts: what bash would run, without running it."""

from __future__ import annotations

from vramlint.readers.shell.reader import read_shell

__all__ = ["read_shell"]
