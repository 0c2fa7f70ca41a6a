"""Finds the files to lint: those named, and in named folders those that can describe a training run."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from vramlint.discovery.decoding import START
from vramlint.discovery.forms import FORMS, form_of, is_no_run
from vramlint.patterns import lazy
from vramlint.text import Place
from vramlint.values import Problem

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

    from vramlint.discovery.ignores import Ignores
    from vramlint.settings import Settings

MAX_BYTES = 5_000_000
"""Larger files are data, not configuration."""

_NOTEBOOK_BYTES = 50_000_000
"""Notebooks hold their outputs, images among them."""

SKIPPED_FOLDERS = lazy(
    r"(?:\.git|\.hg|\.svn|\.venv|\.tox|\.nox|\.eggs|\.mypy_cache|\.ruff_cache|\.pytest_cache|\.ipynb_checkpoints"
    r"|__pycache__|__pypackages__|node_modules|site-packages|dist|wandb|checkpoint-.*|.*\.egg-info)\Z"
)
_SHEBANG = lazy(rb"#![^\n]*\b(?:(?P<python>python[\d.]*)|(?P<shell>(?:ba|z|k|da)?sh))\b")
_SNIFFED = 8192


class SourceFile(Struct, frozen=True):
    """A file to lint, with its bytes."""

    path: str
    """As the user gave it, or the given folder and the way from there."""
    form: str
    """A value of `forms.FORMS`."""
    data: bytes
    explicit: bool
    """The user named this very file."""


class Skipped(Struct, frozen=True):
    """How many files of a known suffix a walk passed over, and why."""

    unrelated: int = 0
    """Their bytes say nothing of a training run."""
    ignored: int = 0
    """An ignore file or the setting `exclude` leaves them out."""
    too_large: int = 0
    binary: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.unrelated + self.ignored + self.too_large + self.binary


class Discovered(Struct, frozen=True):
    """What discovery found, sorted by path."""

    files: tuple[SourceFile, ...]
    skipped: Skipped
    problems: tuple[Problem, ...]


def most_bytes(form: str) -> int:
    """The size up to which a file of that form is read."""
    return _NOTEBOOK_BYTES if form == "notebook" else MAX_BYTES


def discover(paths: Sequence[str], settings: Settings, *, force_exclude: bool = False) -> Discovered:
    """The files behind `paths`.

    A named file is always taken, unless `force_exclude` applies ignore files and `settings.exclude` to it as well;
    what can't be read of it is a problem. Folders are walked: ignore files are honoured, links to folders not
    followed, and a file is taken when its bytes may say something about a training run. Every file comes once.
    """
    walk = _Walk(settings)
    for path in paths:
        walk.take(os.path.normpath(path) if path else path, force_exclude)
    files = tuple(walk.files[key] for key in sorted(walk.files, key=lambda key: walk.files[key].path))
    counts = walk.counts
    skipped = Skipped(counts["unrelated"], counts["ignored"], counts["too_large"], counts["binary"])
    return Discovered(files, skipped, tuple(sorted(walk.problems, key=lambda problem: problem.place)))


class _Walk:
    """What is found so far; files by their real path, so that none comes twice."""

    def __init__(self, settings: Settings) -> None:
        self.files: dict[str, SourceFile] = {}
        self.problems: list[Problem] = []
        self.counts = dict.fromkeys(("unrelated", "ignored", "too_large", "binary"), 0)
        self._root = os.path.abspath(settings.root)
        self._excluded = _patterns(settings.exclude)

    def take(self, path: str, force_exclude: bool) -> None:
        """A path that the user named."""
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError) as error:
            self._problem("unreadable-file", path, _reason(error))
            return
        absolute = os.path.abspath(path)
        if stat.S_ISDIR(mode):
            from vramlint.discovery.ignores import above

            self._folder(path, absolute, above(absolute))
        elif not stat.S_ISREG(mode):
            self._problem("unreadable-file", path, "not a regular file")
        elif force_exclude and (self._excludes(absolute) or _outside(absolute).hides(absolute)):
            self.counts["ignored"] += 1
        else:
            self._named(path)

    def _named(self, path: str) -> None:
        most = most_bytes(form_of(path))
        data = self._read(path, most)
        if data is None:
            return
        form = form_of(path) or _sniffed(data)
        if len(data) > most:
            self._problem("too-large", path, f"larger than {most // 1_000_000} MB")
        elif not data.strip():
            self._problem("empty-file", path, "the file is empty")
        elif form is None:
            self._problem("unknown-form", path, f"not one of {', '.join(FORMS)}")
        elif _is_binary(data):
            self._problem("unreadable-file", path, "a binary file")
        else:
            self.files[os.path.realpath(path)] = SourceFile(path, form, data, explicit=True)

    def _folder(self, path: str, absolute: str, outside: Ignores) -> None:
        """Walks one folder and what is below it, without recursion."""
        waiting = [(path, absolute, outside)]
        while waiting:
            path, absolute, ignores = waiting.pop()
            try:
                with os.scandir(path) as scan:
                    entries = sorted(scan, key=lambda entry: entry.name)
            except OSError as error:
                self._problem("unreadable-file", path, _reason(error))
                continue
            names = {entry.name for entry in entries}
            if ".gitignore" in names or ".ignore" in names:
                ignores = ignores.entering(absolute)
            for entry in entries:
                child = entry.name if path == os.curdir else os.path.join(path, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    if self._enters(entry, ignores):
                        waiting.append((child, os.path.join(absolute, entry.name), ignores))
                elif form := form_of(entry.name):
                    self._found(entry, child, form, os.path.join(absolute, entry.name), ignores)

    def _enters(self, entry: os.DirEntry[str], ignores: Ignores) -> bool:
        if SKIPPED_FOLDERS.match(entry.name) or os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
            return False
        absolute = os.path.abspath(entry.path)
        return not (self._excludes(absolute, is_folder=True) or ignores.hides(absolute, is_folder=True))

    def _found(self, entry: os.DirEntry[str], path: str, form: str, absolute: str, ignores: Ignores) -> None:
        """A file of a known suffix. Ignore files come last: matching them costs more than reading most files."""
        from vramlint.discovery.prefilter import may_train

        if is_no_run(entry.name) or not entry.is_file():
            self.counts["unrelated"] += 1
            return
        most = most_bytes(form)
        data = self._read(entry.path, most)
        if data is None:
            return
        if len(data) > most:
            self.counts["too_large"] += 1
        elif not may_train(form, data):
            self.counts["unrelated"] += 1
        elif self._excludes(absolute) or ignores.hides(absolute):
            self.counts["ignored"] += 1
        elif _is_binary(data):
            self.counts["binary"] += 1
        else:
            self.files.setdefault(os.path.realpath(entry.path), SourceFile(path, form, data, explicit=False))

    def _read(self, path: str, most: int) -> bytes | None:
        """At most one byte more than is allowed; None, and a problem, when it can't be read."""
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            try:
                size = os.fstat(descriptor).st_size
                return _all(descriptor, min(size, most) + 1)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._problem("unreadable-file", path, _reason(error))
            return None

    def _excludes(self, absolute: str, is_folder: bool = False) -> bool:
        if self._excluded is None:
            return False
        relative = os.path.relpath(absolute, self._root).replace(os.sep, "/")
        if relative.startswith(os.pardir):
            return False
        return self._excluded.match_file(relative + ("/" if is_folder else ""))

    def _problem(self, kind: str, path: str, message: str) -> None:
        self.problems.append(Problem(kind, message, Place(path, START)))


def _all(descriptor: int, limit: int) -> bytes:
    """Up to `limit` bytes; a single read may give fewer."""
    data = os.read(descriptor, limit)
    while len(data) < limit and (more := os.read(descriptor, limit - len(data))):
        data += more
    return data


def excludes(settings: Settings, path: str) -> bool:
    """Whether the setting `exclude` leaves a file out."""
    excluded = _patterns(settings.exclude)
    if excluded is None:
        return False
    relative = os.path.relpath(os.path.abspath(path), os.path.abspath(settings.root)).replace(os.sep, "/")
    return not relative.startswith(os.pardir) and excluded.match_file(relative)


def _patterns(lines: Iterable[str]) -> GitIgnoreSpec | None:
    listed = tuple(lines)
    if not listed:
        return None
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(listed)


def _outside(absolute: str) -> Ignores:
    from vramlint.discovery.ignores import above

    folder = os.path.dirname(absolute)
    return above(folder).entering(folder)


def _is_binary(data: bytes) -> bool:
    """Whether it holds NUL bytes without being UTF-16, which decoding names as such."""
    return b"\0" in data[:_SNIFFED] and not data.startswith((b"\xff\xfe", b"\xfe\xff"))


def _sniffed(data: bytes) -> str | None:
    """The form of a file whose suffix says nothing."""
    shebang = _SHEBANG.match(data)
    if shebang:
        return shebang.lastgroup
    return "json" if data.lstrip()[:1] == b"{" else None


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None)
    return text[:1].lower() + text[1:] if text else "not a path"
