"""Commands that run a text: `eval`, `bash -c`, also behind a launcher (`srun bash -c "…"`)."""

from __future__ import annotations

from vramlint.readers.shell import located
from vramlint.readers.shell.invoked import Invoked
from vramlint.readers.shell.machine import DEEPEST, OPEN, Machine, Outcome, composed
from vramlint.readers.shell.pieces import Fork, Hole, Piece, Pieces, Text, Word, variants
from vramlint.readers.shell.source import Range
from vramlint.readers.shell.state import Arguments

_SHELLS = frozenset({"bash", "sh", "zsh", "dash", "/bin/bash", "/bin/sh", "/usr/bin/bash", "/usr/bin/env bash"})


def evaluate(machine: Machine, pieces: Pieces) -> Outcome:
    """Run a text as commands. Unknown parts of it stay unknown words; alternatives run one after the other."""
    from vramlint.readers.shell.statements import block

    if machine.depth >= DEEPEST:
        return OPEN
    outcome = OPEN
    options = variants(pieces)
    around, source = machine.conditions, machine.source
    for option, condition in options:
        text, holes = _readable(machine, option)
        machine.source = composed(text)
        machine.conditions = (*around, condition) if condition else around
        kept = {name: machine.state.variables.get(name) for name in holes}
        for name, hole in holes.items():
            machine.state.variables[name] = (hole,)
        machine.depth += 1
        outcome = block(machine, machine.parse(machine.source, 0, len(machine.source.text)).block)
        machine.depth -= 1
        for name in kept:
            machine.state.variables.pop(name, None)
    machine.source, machine.conditions = source, around
    return outcome


def _readable(machine: Machine, pieces: Pieces) -> tuple[Pieces, dict[str, Hole]]:
    """The pieces as text alone: an unknown part becomes a variable that is unknown."""
    found: list[Piece] = []
    holes: dict[str, Hole] = {}
    for piece in pieces:
        if isinstance(piece, Hole):
            name = f"__unknown_{machine.depth}_{len(holes)}"
            holes[name] = piece
            found.append(Text(f"${{{name}}}", piece.range, "shell-variable", True))
        elif isinstance(piece, Text):
            found.append(piece)
    return tuple(found), holes


def inner(machine: Machine, invoked: Invoked) -> Outcome | None:
    """Run the text behind `bash -c`; the words in front of it go in front of every command in the text."""
    words = invoked.words
    for index, (item, _, _) in enumerate(words[:-1]):
        text = _text(item)
        if text in _SHELLS:
            script = _script(words, index + 1)
            if script is None:
                return None
            return _subshell(machine, invoked, index, script)
    return None


def _script(words: list[tuple[Word, int, int]], index: int) -> int | None:
    """Which word is the script of `bash -lc script`."""
    while index < len(words) - 1:
        text = _text(words[index][0])
        if text is None or not text.startswith("-"):
            return None
        if text.endswith("c") and not text.startswith("--"):
            return index + 1
        index += 2 if text in ("-o", "-O", "--rcfile", "--init-file") else 1
    return None


def _subshell(machine: Machine, invoked: Invoked, count: int, script: int) -> Outcome | None:
    item = invoked.words[script][0]
    if isinstance(item, Fork):
        return None
    source = machine.source
    state, prefix = machine.state, machine.prefix
    front = tuple(
        (located.value(word, Range(source, start, end)), source.place(start, end))
        for word, start, end in invoked.words[:count]
    )
    machine.state = state.copy()
    machine.state.variables = {name: held for name, held in state.variables.items() if name in state.exported}
    machine.state.functions = {}
    machine.state.arguments = Arguments(tuple(word for word, _, _ in invoked.words[script + 2 :]))
    machine.prefix = (*prefix, *front)
    outcome = evaluate(machine, item)
    machine.state, machine.prefix = state, prefix
    return outcome


def _text(word: Word) -> str | None:
    if isinstance(word, Fork) or not all(isinstance(piece, Text) for piece in word):
        return None
    return "".join(piece.text for piece in word if isinstance(piece, Text))
