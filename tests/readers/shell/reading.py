"""Reading of scripts that tests write inline."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from vramlint.readers.shell import read_shell
from vramlint.text import Document
from vramlint.values import Alternatives, Command, Entry, Items, Shell, Unknown, Value, plain

Plain = object


def shell(script: str, environment: Sequence[Entry] = ()) -> Shell:
    found, problems = read_shell(Document.of("run.sh", textwrap.dedent(script).lstrip("\n")), environment)
    assert problems == ()
    return found


def commands(script: str) -> list[Command]:
    return list(shell(script).commands)


def words(script: str) -> list[list[Plain]]:
    """The words of all commands: texts as they are, what is not known as `?reason`, alternatives as tuples."""
    return [[shown(word) for word in command.words] for command in shell(script).commands]


def line(script: str) -> list[Plain]:
    """The words of the only command."""
    (only,) = words(script)
    return only


def shown(value: Value) -> Plain:
    match value:
        case Unknown(reason):
            return f"?{reason}"
        case Alternatives(options):
            return tuple(shown(option.value) for option in options)
        case Items(values):
            return [shown(item) for item in values]
        case _:
            return plain(value)
