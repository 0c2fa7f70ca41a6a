"""A file that is about to be judged, with everything that holds for it."""

from __future__ import annotations

from msgspec import Struct

from vramlint.api.declared import Declared
from vramlint.discovery import SourceFile
from vramlint.engine.selection import RuleSet
from vramlint.resolve.context import Context
from vramlint.settings import Settings
from vramlint.text import Document

LAUNCHERS = ("shell", "make", "docker", "yaml", "notebook")
"""Forms that may hold commands."""


class Subject(Struct, frozen=True):
    """A decoded file and its surroundings."""

    file: SourceFile
    document: Document
    settings: Settings
    rules: RuleSet
    declared: Declared
    context: Context
    given: bool = True
    """The user named it, or a folder around it; else it was found because it names such a file."""

    @property
    def path(self) -> str:
        """Where the file lies."""
        return self.file.path
