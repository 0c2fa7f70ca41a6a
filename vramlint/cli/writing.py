"""Writing the files of a fix: all of them or none."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Mapping

from vramlint.cli.errors import UsageError


def write_all(changed: Mapping[str, bytes]) -> None:
    """Write each file as a whole, its mode kept, links followed. All are written beside their targets first.

    Args:
        changed: the new bytes by path; the files are there.

    Raises:
        UsageError: one can't be written; all files are then as they were.
    """
    staged: list[tuple[str, str]] = []
    done: list[tuple[str, bytes]] = []
    path = ""
    try:
        for path, data in changed.items():
            target = os.path.realpath(path)
            staged.append((_stage(target, data), target))
        for temporary, target in staged:
            path = target
            with open(target, "rb") as file:
                before = file.read()
            os.replace(temporary, target)
            done.append((target, before))
    except OSError as error:
        for target, before in reversed(done):
            with contextlib.suppress(OSError):
                os.replace(_stage(target, before), target)
        raise UsageError(f"cannot write {path}: {error.strerror or error}; nothing was changed") from None
    finally:
        for temporary, _ in staged:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _stage(target: str, data: bytes) -> str:
    """The data in a new file beside the target, with its mode."""
    mode = stat.S_IMODE(os.stat(target).st_mode)
    if not os.access(target, os.W_OK):
        raise PermissionError(13, "Permission denied")
    handle, temporary = tempfile.mkstemp(prefix=".vramlint-", dir=os.path.dirname(target))
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, mode)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return temporary
