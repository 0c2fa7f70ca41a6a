"""The source code of a framework at one state: an unpacked package, or a commit of a git repository."""

from __future__ import annotations

import ast
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path

_ABOVE = re.compile(r"^(?:src|[^/]+\.data/(?:pure|plat)lib)/")
"""What stands in front of packages: in repositories and sdists, and in some wheels."""


class Tree:
    """Files by the paths that they have where Python looks for packages."""

    def paths(self, pattern: str = "**") -> list[str]:
        """The paths that match a pattern, sorted; `**` stands for any folders, `*` for a part of a name."""
        wanted = _regex(pattern)
        return sorted(path for path in self._listed if wanted.fullmatch(path))

    def text(self, path: str) -> str:
        """What a file holds; empty where it is not there."""
        listed = self._listed.get(path)
        return self._content(listed) if listed is not None else ""

    def files(self, pattern: str) -> Iterator[tuple[str, str]]:
        """Paths that match a pattern, each with what the file holds."""
        for path in self.paths(pattern):
            yield path, self.text(path)

    def module(self, path: str) -> ast.Module:
        """A Python file as a syntax tree; an empty module where it is not there."""
        return ast.parse(self.text(path), path)

    @cached_property
    def _listed(self) -> dict[str, str]:
        """Where the file really is, by path."""
        return {_ABOVE.sub("", path): path for path in self._all()}

    def _all(self) -> Iterator[str]:
        raise NotImplementedError

    def _content(self, path: str) -> str:
        raise NotImplementedError


class Folder(Tree):
    """A folder with packages in it."""

    def __init__(self, root: Path, packages: tuple[str, ...] = ()) -> None:
        """`packages`: the only folders to look at; where packages are installed there are thousands of files."""
        self._root = root
        self._packages = packages

    def _all(self) -> Iterator[str]:
        for top in [self._root / name for name in self._packages] or [self._root]:
            for path in top.rglob("*"):
                if path.is_file():
                    yield path.relative_to(self._root).as_posix()

    def _content(self, path: str) -> str:
        return (self._root / path).read_text(encoding="utf-8", errors="replace")


class Revision(Tree):
    """A commit, a tag or a branch of a repository."""

    def __init__(self, repository: Path, name: str) -> None:
        self._repository = repository
        self._name = name

    def _all(self) -> Iterator[str]:
        yield from git(self._repository, "ls-tree", "-r", "-z", "--name-only", self._name).split("\0")

    def _content(self, path: str) -> str:
        return git(self._repository, "show", f"{self._name}:{path}")


class Archive(Tree):
    """A wheel or an sdist, read where it lies: nothing is unpacked."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _held(self) -> dict[str, bytes]:
        if self._path.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(self._path) as wheel:
                return {name: wheel.read(name) for name in wheel.namelist() if not name.endswith("/")}
        with tarfile.open(self._path) as sdist:  # everything lies in a folder `name-release`
            opened = ((member.name.partition("/")[2], sdist.extractfile(member)) for member in sdist)
            return {name: file.read() for name, file in opened if file is not None}

    def _all(self) -> Iterator[str]:
        yield from self._held

    def _content(self, path: str) -> str:
        return self._held[path].decode("utf-8", "replace")


def git(repository: Path, *words: str) -> str:
    """What a git command prints; empty where it fails."""
    ran = subprocess.run(
        ["git", "-C", str(repository), *words], capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    return ran.stdout if ran.returncode == 0 else ""


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*)", pattern)
    forms = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return re.compile("".join(forms.get(part, re.escape(part)) for part in parts))
