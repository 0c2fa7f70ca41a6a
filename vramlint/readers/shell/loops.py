"""Loops: unrolled where their words are known, run once where they are not."""

from __future__ import annotations

from collections.abc import Iterable

from vramlint.readers.shell.expansion import calculated, fields
from vramlint.readers.shell.machine import MOST_LOOP_COMMANDS, OPEN, YES, Machine, Outcome, assigned_names
from vramlint.readers.shell.pieces import Fork, Hole, Pieces, Text, Word, assigned, known, shown
from vramlint.readers.shell.source import Range
from vramlint.readers.shell.state import Way, merged
from vramlint.readers.shell.syntax import Block, Counting, Each, Loop

MOST_TURNS = 1000
_GLOB = frozenset("*?[")


def each(machine: Machine, loop: Each) -> Outcome:
    """`for X in …`."""
    at = machine.here(loop.start, loop.end)
    if loop.words is None:
        given = machine.state.arguments.words
        words = [(item, loop.start, loop.start) for item in given or ()]
        if given is None:
            return _unknown(machine, loop, at, f"one of the arguments of {machine.name}")
    else:
        words = fields(machine, loop.words)
    for item, start, end in words:
        if _several(item):
            text = " ".join(machine.source.text[start:end].split())
            reason = next((piece.reason for piece in item if isinstance(piece, Hole)), f"what {text} stands for")
            return _unknown(machine, loop, at, f"value of {loop.name} in a loop over {text}: {reason}")
    return _turns(machine, loop, at, [item for item, _, _ in words])


def _several(item: Word) -> bool:
    """Whether a word may stand for several words, so that the number of turns is not known."""
    if isinstance(item, Fork):
        return True
    return any(
        (isinstance(piece, Hole) and not piece.quoted)
        or (isinstance(piece, Text) and not piece.quoted and not _GLOB.isdisjoint(piece.text))
        for piece in item
    )


def _turns(machine: Machine, loop: Each, at: Range, words: list[Word]) -> Outcome:
    from vramlint.readers.shell.statements import block

    labels = machine.labels
    before = len(machine.commands)
    for index, item in enumerate(words[:MOST_TURNS]):
        value: Pieces = assigned(item) if not isinstance(item, Fork) else ()
        used = machine.turns + len(machine.commands) - before
        last = used >= MOST_LOOP_COMMANDS and not labels
        if last:
            value = (Hole(f"value {index + 1} and later of {loop.name} in a long loop", f"${loop.name}", at, True),)
        machine.assign(loop.name, value)
        machine.labels = (*labels, f"{loop.name}={_title(value)}")
        block(machine, loop.body)
        if _left(machine) or last or (used >= MOST_LOOP_COMMANDS and labels):
            break
    machine.labels = labels
    if not labels:
        machine.turns += len(machine.commands) - before
    return YES


def _title(value: Pieces) -> str:
    text = known(value)
    return shown(value) if text is None else text


def _left(machine: Machine) -> bool:
    """Whether a `break`, `exit` or `return` leaves the loop."""
    ended = machine.state.ended
    if ended in ("break", "continue"):
        machine.state.ended = ""
    return ended not in ("", "continue")


def _unknown(machine: Machine, loop: Each, at: Range, reason: str) -> Outcome:
    """One turn with an unknown word; there may be none."""
    state = machine.state.copy()
    machine.state = state.copy()
    _forget(machine, loop.body, at)
    machine.assign(loop.name, (Hole(reason, f"${loop.name}", at, True),))
    _once(machine, loop.body, state, at, f"for {loop.name}")
    return YES


def _forget(machine: Machine, body: Block, at: Range) -> None:
    """What a loop changes is unknown at the start of a turn."""
    for name in sorted(assigned_names(machine.source.text[body.start : body.end])):
        if name in machine.state.variables:
            machine.assign(name, (Hole(f"value of {name}, which a loop changes", f"${name}", at, True),))


def _once(machine: Machine, body: Block, before: object, at: Range, condition: str) -> None:
    from vramlint.readers.shell.state import State
    from vramlint.readers.shell.statements import block

    block(machine, body)
    _left(machine)
    if isinstance(before, State):
        machine.state = merged([Way(before, ""), Way(machine.state, condition)], at)


def conditional(machine: Machine, loop: Loop) -> Outcome:
    """`while` and `until`. A loop over options that nobody gives does not run."""
    from vramlint.readers.shell.statements import block, source_text

    at = machine.here(loop.start, loop.end)
    for turn in range(MOST_TURNS):
        state = machine.state.copy()
        outcome = block(machine, loop.test)
        status = outcome.usual if outcome.status is None and not outcome.likely else outcome.status
        wanted = not loop.until
        if status is (not wanted):
            machine.skip(loop.body.start, loop.body.end)
            return YES
        if status is None or outcome.status is None or turn == MOST_TURNS - 1 or _many(machine):
            _forget(machine, loop.body, at)
            condition = source_text(machine, loop.test) if loop.test.statements else ""
            _once(machine, loop.body, state, at, condition)
            return YES
        before = len(machine.commands)
        block(machine, loop.body)
        machine.turns += len(machine.commands) - before if not machine.labels else 0
        if _left(machine) or not machine.step():
            return YES
    return OPEN


def _many(machine: Machine) -> bool:
    return machine.turns >= MOST_LOOP_COMMANDS


def counting(machine: Machine, loop: Counting) -> Outcome:
    """`for ((i = 0; i < n; i++))`."""
    from vramlint.readers.shell.statements import block

    at = machine.here(loop.start, loop.end)
    parts = [*loop.parts, *[(loop.start, loop.start)] * 3][:3]
    _evaluate(machine, parts[0], at)
    names = sorted(assigned_names(f"(({machine.source.text[slice(*parts[0])]}"))
    labels = machine.labels
    before = len(machine.commands)
    for _ in range(MOST_TURNS):
        status = _evaluate(machine, parts[1], at) if parts[1][0] < parts[1][1] else "1"
        if status == "0":
            machine.skip(loop.body.start, loop.body.end)
            break
        many = machine.turns + len(machine.commands) - before >= MOST_LOOP_COMMANDS
        if status is None or many:
            state = machine.state.copy()
            _forget(machine, loop.body, at)
            for name in names:
                machine.assign(name, (Hole(f"value of {name}, which a loop changes", f"${name}", at, True),))
            _once(machine, loop.body, state, at, machine.source.text[slice(*parts[1])].strip())
            break
        machine.labels = (*labels, *_counted(machine, names))
        block(machine, loop.body)
        if _left(machine) or not machine.step():
            break
        _evaluate(machine, parts[2], at)
    machine.labels = labels
    if not labels:
        machine.turns += len(machine.commands) - before
    return YES


def _counted(machine: Machine, names: Iterable[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        held = machine.value(name)
        if isinstance(held, tuple) and not hasattr(held, "elements"):
            found.append(f"{name}={_title(held)}")
    return found


def _evaluate(machine: Machine, span: tuple[int, int], at: Range) -> str | None:
    return known(calculated(machine, *span, at, quoted_=True))
