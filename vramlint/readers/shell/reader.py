"""The entry: a script's text to its commands, the files that it writes, and its batch headers."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence

from vramlint.readers.shell.batch import batch_variables
from vramlint.readers.shell.files import written
from vramlint.readers.shell.given import arguments_of, variables_of
from vramlint.readers.shell.headers import headers
from vramlint.readers.shell.machine import MOST_STEPS, Machine
from vramlint.readers.shell.mistakes import mistakes
from vramlint.readers.shell.source import Source
from vramlint.readers.shell.state import State
from vramlint.readers.shell.statements import block
from vramlint.text import Document, Place
from vramlint.values import Entry, Problem, Shell, Value


def _nowhere(path: str) -> Document | None:
    return None


def read_shell(
    document: Document,
    environment: Sequence[Entry] = (),
    name: str = "",
    *,
    arguments: Sequence[Value] | None = None,
    sources: Callable[[str], Document | None] = _nowhere,
) -> tuple[Shell, tuple[Problem, ...]]:
    """What a bash script does, as far as it can be known without running it.

    Args:
        document: The script, or a part of another file that bash would be given.
        environment: Variables that are set when it starts.
        name: How reasons call it, its file name where empty.
        arguments: What it is called with; None if nobody says.
        sources: The file that `source path` reads, None if there is none to be had.
    """
    source = Source.of(document)
    machine = Machine(name or posixpath.basename(document.path) or "the script", source, sources)
    machine.state = State(arguments=arguments_of(arguments, source))
    options = headers(source.document)
    machine.state.variables.update(batch_variables(options, source))
    variables_of(environment, source, machine.state)
    problems: tuple[Problem, ...] = ()
    try:
        parsed = machine.parse(source, 0, len(source.text))
        problems = mistakes(source, parsed)
        block(machine, parsed.block)
    except RecursionError:
        problems = (*problems, _problem(document, "too deeply nested; the rest of the script is not read"))
    if machine.steps > MOST_STEPS:
        problems = (*problems, _problem(document, f"more than {MOST_STEPS} commands; the rest is not read"))
    files = tuple(written(draft) for draft in machine.drafts)
    return Shell(document.path, tuple(machine.commands), files, options), problems


def _problem(document: Document, message: str) -> Problem:
    return Problem("too-large", message, Place(document.path, document.span(0, 0)))
