"""The files around the checked ones."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from functools import cache

from vramlint.discovery.forms import form_of
from vramlint.discovery.walk import most_bytes


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


@cache
def names(folder: str) -> Sequence[str]:
    """The names in a folder, sorted; empty when there is no such folder."""
    try:
        return sorted(os.listdir(folder))
    except (OSError, ValueError):
        return ()


def repository(path: str) -> str:
    """The root of the git repository around an absolute path; empty for relative paths, which end where they start."""
    if not os.path.isabs(path):
        return ""
    folder = os.path.dirname(path)
    while folder != (parent := os.path.dirname(folder)):
        if os.path.exists(os.path.join(folder, ".git")):
            return folder
        folder = parent
    return ""
