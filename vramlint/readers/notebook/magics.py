"""What the magics of IPython, Colab and Databricks do with the text behind them.

Sources: IPython 9 `core/magics/`, google.colab `_shell.py`, Databricks' "magic commands".
"""

from __future__ import annotations

from enum import Enum, auto
from types import MappingProxyType

from vramlint.readers.notebook.escapes import Escape


class Role(Enum):
    """What becomes of an escape."""

    PYTHON = auto()
    """A cell magic's body, or a line magic's arguments, run as Python in the notebook's names."""
    PERHAPS = auto()
    """A cell magic that is not known: Python if its body can be read as such."""
    SHELL = auto()
    RUN = auto()
    """`%run script.py …`: a program with a command line."""
    FILE = auto()
    """The body is written to a file."""
    ENVIRONMENT = auto()
    FOLDER = auto()
    OTHER = auto()
    """Another language, or nothing that matters here."""


_CELL_WORDS = {
    Role.PYTHON: "capture time timeit prun debug memit mprun lprun scalene ipytest local skip",
    Role.SHELL: "bash sh shell ! sx system script zsh",
    Role.FILE: "writefile file",
    Role.OTHER: """
        html HTML javascript js svg SVG latex markdown md perl ruby R r sql bigquery cython python python2 python3 pypy
        julia scala cmd powershell fs
    """,
}
SHELL_CELLS = frozenset(_CELL_WORDS[Role.SHELL].split())
"""Names of cell magics whose body is given to a shell."""

_LINE_WORDS = {
    Role.PYTHON: "time timeit prun memit mprun lprun",
    Role.SHELL: "sx system",
    Role.RUN: "run",
    Role.ENVIRONMENT: "env set_env",
    Role.FOLDER: "cd",
}
_WHOLE_CELL_WORDS = {Role.PYTHON: "python", Role.SHELL: "sh", Role.OTHER: "sql md scala r fs"}
"""Databricks' magics have one sign and take the whole cell."""

_SHELLS = ("bash", "sh", "zsh", "/bin/bash", "/bin/sh")
"""What `%%script` runs bodies of commands with."""


def _table(words: dict[Role, str], sign: str) -> MappingProxyType[str, Role]:
    return MappingProxyType({f"{sign}{word}": role for role, listed in words.items() for word in listed.split()})


_CELLS = _table(_CELL_WORDS, "%%")
_LINES = _table(_LINE_WORDS, "%")
_WHOLE_CELLS = _table(_WHOLE_CELL_WORDS, "%")


def role(escape: Escape, text: str) -> Role:
    """What `escape` of `text` does."""
    if escape.name == "!":
        return Role.SHELL
    if escape.body is None:
        return _LINES.get(escape.name, Role.OTHER)
    if escape.name == "%%script":
        words = text[slice(*escape.arguments)].split()
        program = next((word for word in words if not word.startswith("-")), "")
        return Role.SHELL if program in _SHELLS else Role.OTHER
    return _WHOLE_CELLS.get(escape.name) or _CELLS.get(escape.name, Role.PERHAPS)
