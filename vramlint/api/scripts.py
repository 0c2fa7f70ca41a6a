"""Shell scripts that commands start, read with the arguments that they are given."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from vramlint.api.loading import Shells
from vramlint.facts import Fact
from vramlint.resolve.context import Context, ancestors
from vramlint.surfaces.launch import Workload
from vramlint.text import Document, Place
from vramlint.values import Command, Scalar, Shell, Value

DEEPEST = 4
"""Scripts that start one another."""

_SUFFIXES = (".sh", ".bash", ".slurm", ".sbatch", ".pbs")
_RUNNERS = frozenset(
    ["bash", "sh", "zsh", "ksh", "dash", "sbatch", "srun", "qsub", "bsub", "nohup", "exec", "time", "env", "sudo"]
)
"""Programs that run a script named behind them, options between."""


class Script(NamedTuple):
    """A workload, and the scripts that it was started through."""

    workload: Workload
    through: tuple[str, ...] = ()
    by: tuple[Place, ...] = ()
    """The commands that start those scripts."""


def with_scripts(
    workload: Workload,
    context: Context,
    shells: Shells,
    through: tuple[str, ...] = (),
    by: tuple[Place, ...] = (),
) -> Iterator[Script]:
    """The workload's own commands, and those of the scripts among them, in the order in which they run."""
    own: list[Command] = []
    for command in workload.commands:
        inner = _started(command, workload.path, context, shells, through) if len(through) < DEEPEST else None
        if inner is None:
            own.append(command)
            continue
        if own:
            yield Script(replace(workload, commands=tuple(own)), through, by)
            own = []
        shell, path = inner
        commands = tuple(_inside(item, command) for item in shell.commands)
        facts = (*workload.facts, *_asked(shell, workload))
        nested = replace(workload, commands=commands, facts=facts, files=(*workload.files, *shell.files))
        yield from with_scripts(nested, context, shells, (*through, path), (*by, command.place))
    if own or not through:
        yield Script(replace(workload, commands=tuple(own)), through, by)


def _started(
    command: Command, path: str, context: Context, shells: Shells, through: Sequence[str]
) -> tuple[Shell, str] | None:
    found = _script_of(command.words)
    if found is None:
        return None
    name, arguments = found
    for document in _documents(name, (path, *through), context):
        if document.path in (path, *through):
            return None  # it starts itself
        shell, _ = shells(document, command.environment, arguments=arguments)
        return shell, document.path
    return None


def _script_of(words: Sequence[Value]) -> tuple[str, tuple[Value, ...]] | None:
    """The script that a command runs, and what it is given."""
    for position, word in enumerate(words):
        text = word.value if isinstance(word, Scalar) else None
        if isinstance(text, str) and text.lower().endswith(_SUFFIXES):
            return text, tuple(words[position + 1 :])
        if position == 0 and not (isinstance(text, str) and posixpath.basename(text) in _RUNNERS):
            return None
    return None


def _documents(name: str, around: Sequence[str], context: Context) -> Iterator[Document]:
    for path in around:
        for folder in ancestors(path, context.root):
            document = context.load(posixpath.normpath(posixpath.join(folder, name)))
            if document is not None:
                yield document


def _inside(command: Command, outer: Command) -> Command:
    """A command of a script as it runs where `outer` starts the script."""
    labels = tuple(filter(None, (outer.label, command.label)))
    return replace(
        command,
        folder=outer.folder if command.folder is None else command.folder,
        conditions=tuple(dict.fromkeys((*outer.conditions, *command.conditions))),
        label=", ".join(dict.fromkeys(labels)),
    )


def _asked(shell: Shell, workload: Workload) -> tuple[Fact, ...]:
    """What the script's own header asks for, where the workload declares nothing."""
    if workload.facts or not shell.headers:
        return ()
    from vramlint.surfaces.jobfiles import slurm_facts

    return slurm_facts(shell)
