"""Writing a file as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile

from vramlint.cli.errors import UsageError


def write_atomically(path: str, text: str) -> None:
    """Write `text` as it is (line ends included) to `path`, its folder made if needed, the file's mode kept.

    Raises:
        UsageError: it can't be written; what was there is then untouched.
    """
    folder = os.path.dirname(path) or "."
    target = os.path.realpath(path)
    temporary = ""
    try:
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".vramlint-", dir=os.path.dirname(target))
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.chmod(temporary, _mode(target))
        os.replace(temporary, target)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None


def _mode(path: str) -> int:
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
