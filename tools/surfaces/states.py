"""The states of a framework over time: commits of a git repository, and releases on PyPI that it does not have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tools.surfaces.trees import Revision, Tree, git


class MissingStateError(Exception):
    """A state that is neither in the repository nor on PyPI."""


class States:
    """Where the code of a framework at one state is found."""

    def __init__(
        self,
        repository: Path | None,
        package: Callable[[str], Tree | None],
        beside: Callable[[str], Path | None] = lambda _: None,
    ) -> None:
        """`repository`: bare or checked out; `package`: the distribution of a release; `beside`: see `other`."""
        self._repository = repository
        self._package = package
        self._beside = beside

    def other(self, framework: str) -> States:
        """The repository of another framework, whose code this one extends.

        Raises:
            MissingStateError: nobody says where it is.
        """
        path = self._beside(framework)
        if path is None:
            raise MissingStateError(f"the repository of {framework} is needed too; give --repo {framework}=PATH")
        return States(path, lambda _: None)

    def revision(self, name: str) -> Tree:
        """The files at a commit, a tag or a branch of the repository.

        Raises:
            MissingStateError: there is no such revision, or no repository.
        """
        if self._repository is None or not self._has(name):
            raise MissingStateError(f"no revision {name!r} in {self._repository or 'any repository'}")
        return Revision(self._repository, name)

    def release(self, number: str) -> Tree:
        """The files of a release: those of its tag, else of its package.

        Raises:
            MissingStateError: there is neither.
        """
        if self._repository is not None:
            for tag in (f"v{number}", number):
                if self._has(tag):
                    return Revision(self._repository, tag)
        found = self._package(number)
        if found is None:
            raise MissingStateError(f"release {number} is neither a tag of {self._repository} nor a wheel on PyPI")
        return found

    def before(self, date: str) -> Tree:
        """The files at the last commit of the main branch before a date, `2026-02-01`.

        Raises:
            MissingStateError: there is none.
        """
        repository = self._repository
        commit = git(repository, "rev-list", "-1", f"--before={date}", "HEAD").strip() if repository else ""
        return self.revision(commit or f"HEAD before {date}")

    def tags(self) -> list[str]:
        """All tags, the oldest version first."""
        return git(self._repository, "tag", "--sort=v:refname").split() if self._repository else []

    def _has(self, name: str) -> bool:
        found = self._repository and git(self._repository, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        return bool(found)
