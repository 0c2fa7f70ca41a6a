"""Commands that run a text: `eval`, `bash -c`, also behind a launcher (`srun bash -c "…"`)."""

from __future__ import annotations

from vramlint.patterns import lazy
from vramlint.readers.shell import located
from vramlint.readers.shell.invoked import Invoked
from vramlint.readers.shell.machine import DEEPEST, OPEN, Machine, Outcome, composed
from vramlint.readers.shell.pieces import STAND, Break, Choice, Fork, Hole, Piece, Pieces, Text, Word, known, variants
from vramlint.readers.shell.source import Range
from vramlint.readers.shell.state import Arguments
from vramlint.text import Place
from vramlint.values import Value

_SCRIPT = lazy(r"\.(?:sh|slurm|sbatch|bash|job)$")
_WORD = lazy(r"[\w./:=@%+,-]+")
_SHELLS = frozenset({"bash", "sh", "zsh", "dash", "/bin/bash", "/bin/sh", "/usr/bin/bash", "/usr/bin/env bash"})


def evaluate(machine: Machine, pieces: Pieces) -> Outcome:
    """Run a text as commands. Unknown parts of it stay unknown words; alternatives run one after the other."""
    from vramlint.readers.shell.statements import block

    if machine.depth >= DEEPEST:
        return OPEN
    outcome = OPEN
    around, source, variables = machine.conditions, machine.source, machine.state.variables
    stands: dict[str, Hole | Choice] = {}
    for option, condition in variants(_readable(machine, pieces, stands)):
        machine.source = composed(_readable(machine, option, stands))
        machine.conditions = (*around, condition) if condition else around
        variables.update({name: (piece,) for name, piece in stands.items()})
        machine.depth += 1
        outcome = block(machine, machine.parse(machine.source, 0, len(machine.source.text)).block)
        machine.depth -= 1
    for name in stands:
        machine.state.variables.pop(name, None)
    machine.source, machine.conditions = source, around
    return outcome


def _readable(machine: Machine, pieces: Pieces, stands: dict[str, Hole | Choice]) -> Pieces:
    """The pieces as text: for an unknown part, or a choice between words, a variable stands that holds it."""
    found: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Hole) or (isinstance(piece, Choice) and _plain(piece)):
            name = f"{STAND}{machine.depth}_{len(stands)}"
            stands[name] = piece
            at = piece.range if isinstance(piece, Hole) else piece.ref or piece.site or _written(piece)
            if at is not None:
                found.append(Text(f"${{{name}}}", at, "shell-variable", True))
        elif not isinstance(piece, Break):
            found.append(piece)
    return tuple(found)


def _written(choice: Choice) -> Range | None:
    """Where the first of the options is written: a choice that word splitting has made has no place of its own."""
    texts = (piece for option, _ in choice.options for piece in option if isinstance(piece, Text))
    return next((text.range for text in texts), None)


def _plain(choice: Choice) -> bool:
    """Whether every option is one word without quotes or operators."""
    texts = [known(option) for option, _ in choice.options]
    return all(text is not None and _WORD.fullmatch(text) for text in texts)


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


SUBMITTERS = frozenset({"sbatch", "qsub", "bsub"})


def fed(machine: Machine, invoked: Invoked, read: Pieces) -> Outcome | None:
    """Run a script that a shell or a batch system reads from its input: `srun bash <<EOF`, `sbatch <<EOF`."""
    texts = [_text(item) for item, _, _ in invoked.words]
    if any(isinstance(piece, Hole) and not piece.reason for piece in read):
        return None
    if invoked.name in SUBMITTERS:
        if any(text is not None and _SCRIPT.search(text) for text in texts[1:]):
            return None
        return _isolated(machine, (), (), read)
    shell = next((index for index, text in enumerate(texts) if text in _SHELLS), None)
    if shell is None or any(text is None or not text.startswith("-") for text in texts[shell + 1 :]):
        return None
    return _isolated(machine, _front(machine, invoked, shell), (), read)


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
    arguments = tuple(word for word, _, _ in invoked.words[script + 2 :])
    return _isolated(machine, _front(machine, invoked, count), arguments, item)


def _front(machine: Machine, invoked: Invoked, count: int) -> tuple[tuple[Value, Place], ...]:
    """The first words of a command, which go in front of what it runs."""
    source = machine.source
    return tuple(
        (located.value(word, Range(source, start, end)), source.place(start, end))
        for word, start, end in invoked.words[:count]
    )


def _isolated(
    machine: Machine, front: tuple[tuple[Value, Place], ...], arguments: tuple[Word, ...], script: Pieces
) -> Outcome:
    """Run a script in a shell of its own, which inherits what is exported."""
    state, prefix = machine.state, machine.prefix
    machine.state = state.copy()
    machine.state.variables = {name: held for name, held in state.variables.items() if name in state.exported}
    machine.state.functions = {}
    machine.state.arguments = Arguments(arguments)
    machine.prefix = (*prefix, *front)
    outcome = evaluate(machine, script)
    machine.state, machine.prefix = state, prefix
    return outcome


def _text(word: Word) -> str | None:
    if isinstance(word, Fork) or not all(isinstance(piece, Text) for piece in word):
        return None
    return "".join(piece.text for piece in word if isinstance(piece, Text))
