"""Loops: unrolled where their words are known, run once where they are not."""

from __future__ import annotations

from collections.abc import Iterable

from vramlint.readers.shell.calculation import calculated
from vramlint.readers.shell.expansion import fields
from vramlint.readers.shell.machine import OPEN, YES, Machine, Outcome, assigned_names
from vramlint.readers.shell.pieces import Fork, Hole, Pieces, Text, Word, assigned, known, shown
from vramlint.readers.shell.source import Range
from vramlint.readers.shell.state import Way, merged
from vramlint.readers.shell.syntax import Block, Counting, Each, Loop

MOST_TURNS = 256
LONGEST_LABEL = 40
_GLOB = frozenset("*?[")


def each(machine: Machine, loop: Each) -> Outcome:
    """`for X in …`."""
    at = machine.here(loop.start, loop.end)
    if loop.words is None:
        given = machine.state.arguments.words
        words = [(item, loop.start, loop.start) for item in given or ()]
        if given is None:
            return _unknown(machine, loop, at, f"one of the arguments of {machine.name}", given=True)
    else:
        words = fields(machine, loop.words)
    for item, start, end in words:
        if _several(item):
            text = " ".join(machine.source.text[start:end].split())
            reason = next((piece.reason for piece in item if isinstance(piece, Hole)), f"what {text} stands for")
            nothing = all(isinstance(piece, Hole) and piece.given == "" for piece in item)
            return _unknown(machine, loop, at, f"value of {loop.name} in a loop over {text}: {reason}", given=nothing)
    with _Counted(machine):
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
    for index, item in enumerate(words[:MOST_TURNS]):
        value: Pieces = assigned(item) if not isinstance(item, Fork) else ()
        last = machine.many() and (index > 0 or bool(labels))
        if last:
            value = (Hole(f"value {index + 1} and later of {loop.name} in a long loop", f"${loop.name}", at, True),)
        machine.assign(loop.name, value)
        machine.labels = (*labels, _label(loop.name, value, index + 1))
        block(machine, loop.body)
        if _left(machine) or last:
            break
    machine.labels = labels
    return YES


def _title(value: Pieces) -> str:
    text = known(value)
    return shown(value) if text is None else text


def _label(name: str, value: Pieces, number: int) -> str:
    """`MODEL=gpt2`; a long value is cut and counted."""
    title = " ".join(_title(value).split())
    if len(title) > LONGEST_LABEL:
        title = f"{title[:LONGEST_LABEL]}… ({number})"
    return f"{name}={title}"


def _left(machine: Machine) -> bool:
    """Whether a `break`, `exit` or `return` leaves the loop."""
    ended = machine.state.ended
    if ended in ("break", "continue"):
        machine.state.ended = ""
    return ended not in ("", "continue")


def _unknown(machine: Machine, loop: Each, at: Range, reason: str, *, given: bool = False) -> Outcome:
    """One turn with an unknown word; there may be none.

    A loop over arguments that nobody gives leaves the variables as they are.
    """
    state = machine.state.copy()
    noted = machine.noted
    machine.state = state.copy()
    _forget(machine, loop.body, at)
    machine.assign(loop.name, (Hole(reason, f"${loop.name}", at, True),))
    _once(machine, loop.body, state, at, f"for {loop.name}")
    if given and machine.noted == noted:
        machine.state = state
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
    condition = source_text(machine, loop.test) if loop.test.statements else ""
    endless = "$" not in condition and "((" not in condition
    with _Counted(machine):
        for turn in range(MOST_TURNS):
            before, commands, drafts = machine.state.copy(), len(machine.commands), len(machine.drafts)
            outcome = block(machine, loop.test)
            status = outcome.usual if outcome.status is None and not outcome.likely else outcome.status
            if status is loop.until:
                machine.skip(loop.body.start, loop.body.end)
                return YES
            decided = status is not None and outcome.status is not None
            if decided and turn < MOST_TURNS - 1 and not machine.many():
                block(machine, loop.body)
                if _left(machine) or not machine.step():
                    return YES
                if not endless:
                    continue
                # nothing that is known ends it: the first turn says no more than any other
                del machine.commands[commands:], machine.drafts[drafts:]
                machine.state = before.copy()
            _forget(machine, loop.body, at)
            _once(machine, loop.body, before, at, condition)
            return YES
    return OPEN


class _Counted:
    """Around a loop: the commands of the outermost one are counted when it ends."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.outermost = machine, machine.loop is None

    def __enter__(self) -> None:
        if self.outermost:
            self.machine.loop = self.machine.noted

    def __exit__(self, *_: object) -> None:
        if self.outermost:
            self.machine.turns = self.machine.used()
            self.machine.loop = None


def counting(machine: Machine, loop: Counting) -> Outcome:
    """`for ((i = 0; i < n; i++))`."""
    from vramlint.readers.shell.statements import block

    at = machine.here(loop.start, loop.end)
    start, test, step = [*loop.parts, *[(loop.start, loop.start)] * 3][:3]
    _evaluate(machine, start, at)
    names = sorted(assigned_names(f"(({machine.source.text[slice(*start)]}"))
    labels = machine.labels
    with _Counted(machine):
        for turn in range(MOST_TURNS):
            status = _evaluate(machine, test, at) if test[0] < test[1] else "1"
            if status == "0":
                machine.skip(loop.body.start, loop.body.end)
                break
            if status is None or (turn and machine.many()):
                before = machine.state.copy()
                _forget(machine, loop.body, at)
                for name in names:
                    machine.assign(name, (Hole(f"value of {name}, which a loop changes", f"${name}", at, True),))
                _once(machine, loop.body, before, at, machine.source.text[slice(*test)].strip())
                break
            machine.labels = (*labels, *_counted(machine, names))
            block(machine, loop.body)
            if _left(machine) or not machine.step():
                break
            _evaluate(machine, step, at)
    machine.labels = labels
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
