"""Simple commands: assignments, builtins, functions, and what is left: programs."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.readers.shell import declarations, expansion, located, outputs, parameters
from vramlint.readers.shell.assignments import Assignment, assign, assignment
from vramlint.readers.shell.builtins import BUILTINS
from vramlint.readers.shell.cutting import Simple
from vramlint.readers.shell.fields import stream
from vramlint.readers.shell.invoked import Invoked
from vramlint.readers.shell.machine import LIKELY, OPEN, YES, Draft, Machine, Outcome
from vramlint.readers.shell.pieces import Fork, Pieces, Text, Word, known
from vramlint.readers.shell.redirections import given, target
from vramlint.readers.shell.source import Range
from vramlint.readers.shell.state import Arguments, Held
from vramlint.readers.shell.substitution import emit
from vramlint.readers.shell.wrappers import unwrapped
from vramlint.values import Command, Entry

_SUBMITTING = frozenset({"sbatch", "srun", "qsub", "bsub", "ray", "sky", "gcloud", "aws"})
"""What scripts start a job with and keep the answer: `JOB=$(sbatch train.sh)`."""


_HOUSEKEEPING = frozenset({
    "mkdir", "rm", "cp", "mv", "ln", "touch", "chmod", "ls", "sleep", "kill", "pkill", "killall",
    "date", "hostname", "which", "type", "find", "tar", "unzip", "wget", "curl", "git", "conda", "pip", "apt-get",
    "module", "sync", "nvidia-smi",
})  # fmt: skip


def simple(machine: Machine, command: Simple) -> Outcome:
    """Run a simple command."""
    if not machine.step():
        machine.state.ended = "exit"
        return OPEN
    text = machine.source.text
    count = 0
    assignments: list[Assignment] = []
    for start, end in command.words:
        found = assignment(text, start, end)
        if found is None:
            break
        assignments.append(found)
        count += 1
    if count == len(command.words):
        return _assignments(machine, command, assignments)
    if text[slice(*command.words[count])] in declarations.NAMES:
        return declarations.declare(machine, command.words[count:])
    words = expansion.fields(machine, command.words[count:])
    if not words:
        return _assignments(machine, command, assignments)
    return _invoke(machine, command, assignments, words)


def _assignments(machine: Machine, command: Simple, assignments: Sequence[Assignment]) -> Outcome:
    for item in assignments:
        assign(machine, item)
    file = target(machine, command)
    if file is not None and command.heredocs:
        finish(machine, file, given(machine, command) or (), machine.here(command.start, command.end))
    return YES


def _invoke(
    machine: Machine, command: Simple, assignments: Sequence[Assignment], words: list[tuple[Word, int, int]]
) -> Outcome:
    at = machine.here(command.start, max(command.end, command.start))
    environment, words = unwrapped(words)
    if not words:
        return LIKELY
    first = words[0][0]
    name = known(first) if not isinstance(first, Fork) else None
    invoked = Invoked(command, at, name or "", words)
    kept: dict[str, Held | None] = {}
    for item in assignments:
        kept.setdefault(item.name, machine.value(item.name))
        assign(machine, item)
    prefixed = dict.fromkeys(kept)
    outcome = _dispatch(machine, invoked, prefixed, environment)
    for key, held in kept.items():
        if held is None:
            machine.state.variables.pop(key, None)
        else:
            machine.state.variables[key] = held
    return outcome


def _dispatch(
    machine: Machine, invoked: Invoked, prefixed: dict[str, None], environment: Sequence[tuple[str, Pieces]]
) -> Outcome:
    name = invoked.name
    function = machine.state.functions.get(name)
    if function is not None:
        from vramlint.readers.shell.statements import call

        arguments = machine.state.arguments
        machine.state.arguments = Arguments(tuple(parameters.kept(item) for item, _, _ in invoked.words[1:]))
        outcome = call(machine, function, invoked.at)
        machine.state.arguments = arguments
        return outcome
    builtin = BUILTINS.get(name)
    if builtin is not None:
        outcome = builtin(machine, invoked)
        if outcome is not None:
            return outcome
    return _program(machine, invoked, prefixed, environment)


def _program(
    machine: Machine, invoked: Invoked, prefixed: dict[str, None], environment: Sequence[tuple[str, Pieces]]
) -> Outcome:
    """A command that the shell does not do itself: known for its output, for running another, or just noted."""
    from vramlint.readers.shell.evaluation import SUBMITTERS, fed, inner

    words = [stream((item,)) for item, _, _ in invoked.words]
    file = target(machine, invoked.command)
    read = given(machine, invoked.command) or machine.input
    printing = outputs.PRINTERS.get(invoked.name) if invoked.name != "xargs" or len(words) < 3 else None
    if printing is not None:
        wanted = file is not None or machine.output is not None or invoked.name == "tee"
        pieces = printing(machine, words[1:], read, invoked.at) if wanted else None
        if file is not None:
            finish(machine, file, pieces, invoked.at)
        else:
            emit(machine, pieces, invoked.at)
        return YES if invoked.name in ("echo", "printf") else LIKELY
    found = inner(machine, invoked)
    if found is None and (not machine.substituting or invoked.name in _SUBMITTING):
        submits = invoked.name in SUBMITTERS
        if submits:
            note(machine, invoked, prefixed, environment)
        script = fed(machine, invoked, read) if read and file is None else None
        if script is None and not submits:
            note(machine, invoked, prefixed, environment)
        if script is None and invoked.command.heredocs and file is None and read:
            machine.drafts.append(
                Draft((Text("-", invoked.at, "shell", True),), read, invoked.at, len(machine.commands))
            )
    if file is None:
        emit(machine, None, invoked.at)
    else:
        finish(machine, file, None, invoked.at)
    return LIKELY if found is None else found


_CONFIGURATIONS = (".json", ".yaml", ".yml", ".toml", ".hjson")


def finish(machine: Machine, file: tuple[Pieces, bool], pieces: Pieces | None, at: Range) -> None:
    """Text goes to a file: a new one, or behind what has been written to it before. Logs are of no interest."""
    name, append = file
    title = known(name)
    if title is not None and title.startswith("/dev/"):
        return
    if pieces is None and not (title or "").endswith(_CONFIGURATIONS):
        return
    if append:
        for index in range(len(machine.drafts) - 1, -1, -1):
            draft = machine.drafts[index]
            if known(draft.name) == title is not None:
                whole = None if draft.pieces is None or pieces is None else (*draft.pieces, *pieces)
                machine.drafts[index] = draft._replace(pieces=whole)
                return
    machine.drafts.append(Draft(name, pieces, at, len(machine.commands)))


def note(
    machine: Machine, invoked: Invoked, prefixed: dict[str, None], environment: Sequence[tuple[str, Pieces]]
) -> None:
    """Put a command down."""
    state = machine.state
    source = machine.source
    machine.noted += invoked.name not in _HOUSEKEEPING
    words = [value for value, _ in machine.prefix]
    places = [place for _, place in machine.prefix]
    for item, start, end in invoked.words:
        words.append(located.value(item, Range(source, start, end)))
        places.append(source.place(start, end))
    entries: list[Entry] = []
    for name in dict.fromkeys((*state.exported, *prefixed)):
        held = state.variables.get(name)
        if held is not None:
            entries.append(located.entry(name, held))
    entries += [located.entry(name, pieces) for name, pieces in environment]
    folder = located.value(state.folder, invoked.at) if state.folder else None
    machine.commands.append(
        Command(
            tuple(words),
            tuple(places),
            source.place(invoked.at.start, max(invoked.at.end, invoked.words[-1][2])),
            tuple(entries),
            folder,
            machine.conditions,
            ", ".join(machine.labels),
        )
    )
