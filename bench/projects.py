"""Copies of real projects that are changed and put back, and lists of files in them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple


class Listed(NamedTuple):
    """A file in a folder of projects."""

    project: str
    """The name of its project's folder."""
    path: str
    """Relative to the project."""


def listed(file: Path, root: Path) -> tuple[Listed, ...]:
    """The files that a list names, a line each, relative to the folder of projects; a line may end in a tab and more.

    Raises:
        FileNotFoundError: one is not there.
    """
    names = [line.partition("\t")[0] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise FileNotFoundError(f"not below {root}: {', '.join(missing)}")
    parts = (Path(name).parts for name in sorted(dict.fromkeys(names)))
    return tuple(Listed(first, str(Path(*rest))) for first, *rest in parts)


def by_project(files: Iterable[Listed]) -> dict[str, list[str]]:
    """The paths of each project."""
    groups: dict[str, list[str]] = {}
    for project, path in files:
        groups.setdefault(project, []).append(path)
    return groups


class Copy:
    """A copy of a project in a scratch folder, as long as the `with` lasts.

    The copy ends where the project does: an empty `.git` stands for that of the clone.
    """

    def __init__(self, project: Path, scratch: Path) -> None:
        self._project = project
        self.folder = scratch / project.name

    def __enter__(self) -> Copy:
        shutil.copytree(self._project, self.folder, symlinks=True, ignore=lambda _, names: {".git"} & set(names))
        (self.folder / ".git").mkdir()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        shutil.rmtree(self.folder)

    def restore(self) -> None:
        """Make the copy what the project is, wherever a file was written since."""
        for path in self.folder.rglob("*"):
            origin = self._project / path.relative_to(self.folder)
            if not path.is_file() or path.is_symlink():
                continue
            if not origin.exists():
                path.unlink()
            elif _stamp(path) != _stamp(origin):
                shutil.copy2(origin, path)


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
