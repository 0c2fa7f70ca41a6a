"""Ignore files: which paths .gitignore, .ignore and .git/info/exclude leave out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

NAMES = (".ignore", ".gitignore")
"""In one folder the first one decides first, as in ripgrep and ruff."""


class Ignores(Struct, frozen=True):
    """The patterns that hold in a folder: its own and those of the folders above, nearest first."""

    specs: tuple[tuple[str, GitIgnoreSpec], ...] = field(default=())
    """Absolute folder and patterns."""

    def hides(self, path: str, is_folder: bool = False) -> bool:
        """Whether the absolute `path` is left out; the nearest pattern that matches decides."""
        suffix = "/" if is_folder else ""
        for base, spec in self.specs:
            relative = os.path.relpath(path, base)
            if relative.startswith(os.pardir):
                continue
            verdict = spec.check_file(relative.replace(os.sep, "/") + suffix).include
            if verdict is not None:
                return verdict
        return False

    def entering(self, folder: str) -> Ignores:
        """The patterns that hold inside the absolute `folder`, whose own ignore files come first."""
        found = tuple((folder, spec) for name in NAMES if (spec := _spec(Path(folder, name))) is not None)
        return Ignores((*found, *self.specs)) if found else self


def above(folder: str) -> Ignores:
    """The patterns from outside that hold in the absolute `folder`: those of the git repository around it."""
    here = Path(folder)
    root = next((parent for parent in (here, *here.parents) if (parent / ".git").exists()), None)
    if root is None:
        return Ignores()
    exclude = _spec(root / ".git" / "info" / "exclude")
    ignores = Ignores(((str(root), exclude),) if exclude is not None else ())
    outside = [parent for parent in here.parents if parent == root or root in parent.parents]
    for parent in reversed(outside):
        ignores = ignores.entering(str(parent))
    return Ignores() if here != root and ignores.hides(folder, is_folder=True) else ignores


def _spec(path: Path) -> GitIgnoreSpec | None:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError:
        return None
