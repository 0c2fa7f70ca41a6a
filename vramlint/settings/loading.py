"""Finds and reads settings files."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from vramlint.settings.keys import read_keys
from vramlint.settings.model import Settings
from vramlint.text import Document, Place, Span
from vramlint.values import Problem, Reading, Table

FILE_NAMES = ("vramlint.toml", "pyproject.toml")
"""In one folder the first one wins."""


def find(directory: Path) -> Path | None:
    """The settings file for files in `directory`: the closest one, up to the git root or the file system's.

    A pyproject.toml counts only when it mentions `tool.vramlint`.
    """
    here = directory.resolve()
    for folder in (here, *here.parents):
        for name in FILE_NAMES:
            candidate = folder / name
            if candidate.is_file() and (name == FILE_NAMES[0] or _mentions(candidate)):
                return candidate
        if (folder / ".git").exists():
            return None
    return None


def _mentions(path: Path) -> bool:
    try:
        return b"vramlint" in path.read_bytes() and _section(path) is not None
    except OSError:
        return False


def _section(path: Path) -> object:
    """`[tool.vramlint]`, None without one; a broken file counts as having one, so that its error is shown."""
    import tomli

    try:
        return tomli.loads(path.read_text(encoding="utf-8-sig")).get("tool", {}).get("vramlint")
    except (tomli.TOMLDecodeError, UnicodeDecodeError, RecursionError, AttributeError):
        return path


def load(path: str | Path) -> Settings | tuple[Problem, ...]:
    """The settings in a file, or everything that is wrong with it. Never raises on bad input."""
    name = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        return (Problem("unreadable-file", f"cannot read settings: {reason}", Place(name, Span(1, 1, 1, 1))),)
    from vramlint.readers.toml import read_toml

    return of(read_toml(Document.of(name, text)), name)


def of(reading: Reading, path: str) -> Settings | tuple[Problem, ...]:
    """The settings that a TOML reading of the file `path` holds, or its problems.

    pyproject.toml has them under `tool.vramlint`, any other file at its top.
    """
    errors = tuple(problem for problem in reading.problems if problem.kind != "empty-file")
    if errors or not isinstance(reading.root, Table):
        return errors
    root = str(Path(path).parent)
    table = reading.root
    if Path(path).name == "pyproject.toml":
        inner = table.get("tool", "vramlint")
        if inner is None:
            return Settings(root=root, path=path)
        if not isinstance(inner, Table):
            place = getattr(inner, "place", None) or Place(path, Span(1, 1, 1, 1))
            return (Problem("bad-setting", "`tool.vramlint` takes a table", place),)
        table = inner
    values, places, problems = read_keys(table, path)
    if problems:
        return problems
    return Settings(root=root, path=path, places=MappingProxyType(places), **values)
