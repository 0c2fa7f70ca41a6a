"""The files around the checked ones."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from vramlint.discovery.forms import form_of
from vramlint.discovery.walk import SKIPPED_FOLDERS, excludes, most_bytes
from vramlint.settings import Settings

_MOST_ENTRIES = 20_000
"""Entries of a repository that are looked at for files that name a checked one."""
_MOST_OUTSIDE = 500
"""The same where no repository bounds the search: a home folder, a folder of downloads."""


def load(path: str) -> bytes | None:
    """The content of a regular file of bounded size, None for anything else."""
    try:
        status = os.stat(path)
        most = most_bytes(form_of(path))
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            return None
        with open(path, "rb") as file:
            return file.read(most)
    except (OSError, ValueError):
        return None


def forget() -> None:
    """Forget what was seen of the disk: files come and go between calls, relative paths start in the current folder."""
    for seen in (identity, names, repository, _root, _files, _relative):
        seen.cache_clear()


@cache
def identity(path: str) -> str:
    """What is the same for all paths of one file: its absolute path without links."""
    return os.path.realpath(path)


class Editable:
    """Whether a fix may change a file.

    It may where the file was named, or lies in the project of a named file or folder (its git repository, else the
    folder) and is neither excluded by the settings nor of an environment or a build. Of what comes from standard input
    only that may be changed: all else would be written behind the back of whoever asked for it.
    """

    def __init__(self, paths: Sequence[str], standard: str | None, settings_of: Callable[[str], Settings]) -> None:
        self._standard = standard
        self._settings_of = settings_of
        self._named = frozenset(identity(path) for path in paths)
        self._roots = tuple(dict.fromkeys(identity(_project(path)) for path in paths))
        self._known: dict[str, bool] = {}

    def __call__(self, path: str) -> bool:
        """Whether the file at `path` may be changed."""
        if path not in self._known:
            self._known[path] = self._decide(path)
        return self._known[path]

    def _decide(self, path: str) -> bool:
        if self._standard is not None:
            return path == self._standard
        real = identity(path)
        if real in self._named:
            return True
        root = next((root for root in self._roots if Path(real).is_relative_to(root)), None)
        if root is None or any(SKIPPED_FOLDERS.match(part) for part in os.path.relpath(real, root).split(os.sep)):
            return False
        return not excludes(self._settings_of(path), path)


def _project(path: str) -> str:
    absolute = os.path.abspath(path)
    folder = absolute if os.path.isdir(absolute) else os.path.dirname(absolute)
    return _root(folder) or folder


@cache
def names(folder: str) -> Sequence[str]:
    """The names in a folder, sorted; empty when there is no such folder."""
    try:
        return sorted(os.listdir(folder))
    except (OSError, ValueError):
        return ()


@cache
def repository(path: str) -> str:
    """The root of the git repository around an absolute path; empty for relative paths, which end where they start."""
    return _root(os.path.dirname(path)) if os.path.isabs(path) else ""


def around(path: str) -> Sequence[str]:
    """The files of the project of a checked file that vramlint can read, as paths of the same kind.

    The project is the git repository around the file, else its folder and those in it. Bounded; links to folders
    are not followed.
    """
    folder = os.path.dirname(os.path.abspath(path))
    root = _root(folder)
    found = _files(root or folder, _MOST_ENTRIES if root else _MOST_OUTSIDE)
    return found if os.path.isabs(path) else _relative(found, os.getcwd())


@cache
def _root(folder: str) -> str:
    """The nearest folder with a `.git`, empty when there is none."""
    while folder != (parent := os.path.dirname(folder)):
        if os.path.exists(os.path.join(folder, ".git")):
            return folder
        folder = parent
    return ""


@cache
def _files(root: str, most: int) -> Sequence[str]:
    return tuple(_walked(root, most))


def _walked(root: str, most: int) -> Iterator[str]:
    waiting = [root]
    seen = 0
    while waiting and seen < most:
        folder = waiting.pop(0)
        try:
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            seen += 1
            if entry.is_dir(follow_symlinks=False):
                if not SKIPPED_FOLDERS.match(entry.name):
                    waiting.append(entry.path)
            elif form_of(entry.name):
                yield entry.path


@cache
def _relative(paths: Sequence[str], folder: str) -> Sequence[str]:
    return tuple(os.path.relpath(path, folder) for path in paths)
