"""Commands in job files: shell text in a scalar, and lists of words."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import replace

from vramlint.patterns import lazy
from vramlint.readers.excerpts import Excerpt, joined, moved_shell
from vramlint.readers.quoted import excerpt_of
from vramlint.readers.templates import Lookup, expanded, filled, filled_word, text_of
from vramlint.text import Document, Place
from vramlint.values import (
    Alternatives,
    Command,
    Entry,
    Items,
    Problem,
    Scalar,
    Shell,
    Table,
    Unknown,
    Value,
    WrittenFile,
)


class ReadShell(Protocol):
    """The reader of shell scripts."""

    def __call__(
        self, document: Document, environment: Sequence[Entry] = (), name: str = ""
    ) -> tuple[Shell, tuple[Problem, ...]]:
        """What a script does, given the variables that it finds."""
        ...


class Template(NamedTuple):
    """Variables that the job file's own system puts into a text before anything runs."""

    pattern: re.Pattern[str]
    lookup: Lookup


class Ran(NamedTuple):
    """What a part of a job file runs."""

    commands: tuple[Command, ...] = ()
    files: tuple[WrittenFile, ...] = ()
    headers: tuple[Entry, ...] = ()

    def and_then(self, other: Ran) -> Ran:
        """Both, one after the other."""
        return Ran(self.commands + other.commands, self.files + other.files, self.headers + other.headers)


_SHELLS = frozenset(("sh", "bash", "ash", "dash", "zsh", "ksh"))
_COMMAND_OPTION = lazy(r"-[a-z]*c")


class Scripts(Struct, frozen=True):
    """Reads the commands of one job file."""

    document: Document
    read: ReadShell
    template: Template | None = None

    def with_template(self, pattern: re.Pattern[str], lookup: Lookup) -> Scripts:
        """The same with other variables."""
        return replace(self, template=Template(pattern, lookup))

    def shell(
        self, values: Iterable[Value | None], environment: Sequence[Entry] = (), folder: Value | None = None
    ) -> Ran:
        """Shell text that one shell runs: one scalar, or several one behind the other."""
        parts = [self.excerpt(value) for value in values if isinstance(value, Scalar) and isinstance(value.value, str)]
        if not parts:
            return Ran()
        return self.run(joined(self.document, parts), environment, folder)

    def excerpt(self, value: Scalar) -> Excerpt:
        """The text of a scalar with the way back to the file."""
        return excerpt_of(self.document, str(value.value), value.place)

    def run(
        self,
        excerpt: Excerpt,
        environment: Sequence[Entry] = (),
        folder: Value | None = None,
        held: tuple[Entry, ...] = (),
    ) -> Ran:
        """What shell text does, at its places in the file; `held` is what `put` held back of it."""
        if self.template is not None:
            excerpt, held = expanded(excerpt, *self.template)
        name = posixpath.basename(self.document.path)
        shell, _ = self.read(excerpt.document, (*environment, *held), name)
        shell = moved_shell(shell, excerpt)
        commands = (self._placed(filled(command, held), folder) for command in shell.commands)
        return Ran(tuple(commands), shell.files, shell.headers)

    def words(
        self, values: Sequence[Value], place: Place, environment: Sequence[Entry] = (), folder: Value | None = None
    ) -> Ran:
        """A command given as a list of words; `sh -c TEXT` is what the text does."""
        inner = _shell_text(values)
        if inner is not None:
            return self.shell([values[inner]], environment, folder)
        words = tuple(self.value(value) for value in values)
        places = tuple(value.place or place for value in values)
        return Ran((Command(words, places, place, tuple(environment), folder),) if words else ())

    def either(self, value: Value | None, environment: Sequence[Entry] = (), folder: Value | None = None) -> Ran:
        """A command that is shell text or a list of words."""
        if isinstance(value, Items) and value.place is not None:
            return self.words(value.values, value.place, environment, folder)
        return self.shell([value], environment, folder)

    def value(self, value: Value) -> Value:
        """A scalar as the word of a command line, with the system's variables put in."""
        if not isinstance(value, Scalar):
            return (
                value if isinstance(value, Unknown | Alternatives) else Unknown("a value that is no text", value.place)
            )
        if self.template is None or not isinstance(value.value, str):
            return replace(value, value=text_of(value))
        excerpt, held = expanded(self.excerpt(value), *self.template)
        return filled_word(replace(value, value=excerpt.text), held)

    def _placed(self, command: Command, folder: Value | None) -> Command:
        """The command in the folder in which the job file starts its shell."""
        return command if folder is None else replace(command, folder=inside(folder, command.folder))


def inside(base: Value | None, folder: Value | None) -> Value | None:
    """A folder that is given from `base`."""
    if base is None or folder is None:
        return folder if base is None else base
    if not (isinstance(base, Scalar) and isinstance(folder, Scalar)):
        return folder if isinstance(folder, Unknown) else base
    return replace(folder, value=posixpath.normpath(posixpath.join(str(base.value), str(folder.value))))


def _shell_text(values: Sequence[Value]) -> int | None:
    """Which of a command's words is the text of `sh -c TEXT`."""
    texts = [value.value if isinstance(value, Scalar) else None for value in values]
    if not texts or posixpath.basename(str(texts[0])) not in _SHELLS:
        return None
    for number, text in enumerate(texts[1:-1], 1):
        if isinstance(text, str) and _COMMAND_OPTION.fullmatch(text):
            following = (at for at in range(number + 1, len(texts)) if not str(texts[at]).startswith(("-", "pipefail")))
            return next(following, None)
    return None


def environment_of(value: Value | None) -> tuple[Entry, ...]:
    """Variables of a mapping, of a list of `NAME=value`, or of a list of `{name, value}`.

    A name without a value is what the one who starts the job gives.
    """
    match value:
        case Table(entries=entries):
            return tuple(Entry(entry.key, entry.key_place, _given(entry.key, entry.value)) for entry in entries)
        case Items(values=values):
            return tuple(entry for item in values for entry in _variable(item))
        case _:
            return ()


def _variable(item: Value) -> tuple[Entry, ...]:
    if isinstance(item, Table):
        name = item.get("name")
        if not isinstance(name, Scalar):
            return ()
        return (Entry(str(name.value), name.place, _given(str(name.value), item.get("value"))),)
    if isinstance(item, Scalar) and isinstance(item.value, str):
        key, equals, text = item.value.partition("=")
        return (Entry(key, item.place, replace(item, value=text) if equals else _given(key, None)),)
    return ()


def _given(name: str, value: Value | None) -> Value:
    if isinstance(value, Scalar) and value.value is not None:
        return replace(value, value=text_of(value))
    if isinstance(value, Unknown):
        return value
    return Unknown(f"environment variable {name}", value.place if value is not None else None)
