"""Files of a git revision, written to a folder of their own, without git's filters, hooks and submodules."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vramlint.cli.errors import UsageError
from vramlint.discovery.forms import form_of
from vramlint.discovery.walk import most_bytes

_BLOB = b"blob"
_LINK = b"120000"


class Range(NamedTuple):
    """Two states of a repository."""

    before: str
    """A revision."""
    after: str
    """A revision, or empty for the files as they are."""


def parse_range(text: str) -> Range:
    """The two ends of `BASE..HEAD`, `BASE...HEAD` (since they parted) or `BASE` (until now).

    Raises:
        UsageError: git does not know one of them, or there is no repository.
    """
    before, dots, after = text.partition("...")
    if not dots:
        before, dots, after = text.partition("..")
    base = _commit(before or "HEAD")
    head = _commit(after) if after else ""
    if dots == "...":
        base = _git("merge-base", base, head or _commit("HEAD")).decode().strip()
    return Range(base, head)


def top() -> str:
    """The folder of the repository that the current folder lies in.

    Raises:
        UsageError: it lies in none.
    """
    return _git("rev-parse", "--show-toplevel").decode("utf-8", "surrogateescape").rstrip("\n")


def extract(revision: str, folder: str) -> None:
    """Write those files of a revision that a run may be read from into an empty folder.

    Raises:
        UsageError: git gives no such revision, or a file cannot be written.
    """
    found = [(name, path) for name, path in _listed(revision) if _is_inside(path)]
    try:
        os.mkdir(os.path.join(folder, ".git"))  # what bounds the search for files that belong together
        for path, data in zip((path for _, path in found), _contents([name for name, _ in found]), strict=True):
            target = os.path.join(folder, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as file:
                file.write(data)
    except OSError as error:
        raise UsageError(f"cannot write the files of {revision}: {error.strerror or error}") from None


def _listed(revision: str) -> Iterator[tuple[bytes, str]]:
    """(object, path) of regular files that are not too large to be read."""
    for entry in _git("ls-tree", "-r", "-l", "-z", "--full-tree", revision).split(b"\0"):
        head, _, path = entry.partition(b"\t")
        words = head.split()
        if len(words) != len(("mode", "type", "object", "size")) or words[1] != _BLOB or words[0] == _LINK:
            continue
        name = path.decode("utf-8", "surrogateescape")
        if int(words[3]) <= most_bytes(form_of(name)):
            yield words[2], name


def _is_inside(path: str) -> bool:
    """Git refuses such names; a broken repository need not."""
    return not os.path.isabs(path) and ".." not in path.split("/")


def _contents(objects: Sequence[bytes]) -> Iterator[bytes]:
    """The files' bytes, in order, from one process."""
    output = _git("cat-file", "--batch", given=b"".join(name + b"\n" for name in objects))
    at = 0
    for _ in objects:
        end = output.index(b"\n", at)
        size = int(output[at:end].split()[-1])
        yield output[end + 1 : end + 1 + size]
        at = end + size + 2


def _commit(name: str) -> str:
    if name.startswith("-"):
        raise UsageError(f"{name!r} is no revision")
    return (
        _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", what=name).decode().strip()
    )


def _git(*arguments: str, given: bytes | None = None, what: str = "") -> bytes:
    try:
        done = subprocess.run(["git", *arguments], input=given, capture_output=True, check=False)  # noqa: S603, S607
    except OSError as error:
        raise UsageError(f"cannot run git: {error.strerror or error}") from None
    if done.returncode == 0:
        return done.stdout
    if what:
        raise UsageError(f"no path and no revision is called {what!r}")
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    raise UsageError(f"git {arguments[0]}: {lines[-1] if lines else f'exit status {done.returncode}'}")
