"""Branches: one side when the condition is decided, otherwise both, merged."""

from __future__ import annotations

from collections.abc import Callable

from vramlint.readers.python.conditions import Test
from vramlint.readers.python.journal import Changes
from vramlint.readers.python.machine import Flow, Machine

Side = Callable[[], Flow]


def decided(machine: Machine, taken: Side, other: Side) -> Flow:
    """The side that a decided condition selects.

    A side that only raises or exits is left for the other one: what the defaults alone run into (a path that
    the command line must give) is not what anyone means by running the program.
    """
    mark, calls = machine.journal.mark(), len(machine.calls)
    with machine.holding():
        flow = taken()
        if flow is Flow.RAISE:
            machine.journal.rewind(mark)
            del machine.calls[calls:]
    return flow if flow is not Flow.RAISE else other()


def fork(machine: Machine, yes: list[Test], no: list[Test], body: Side, other: Side) -> Flow:
    """Both sides of an undecided condition, and the state after either."""
    mark = machine.journal.mark()
    first, ours, more_ours = run_side(machine, yes, body, mark)
    second, theirs, more_theirs = run_side(machine, no, other, mark)
    if first is not second:
        machine.splits += 1
        if machine.trial is not None:
            machine.trial.split()
    if (first is Flow.NEXT) == (second is Flow.NEXT):
        machine.journal.merge(ours, theirs, yes[0])
        if first is Flow.NEXT or first is second:
            return first
        return Flow.RETURN if Flow.RETURN in (first, second) else Flow.BREAK
    ended, remaining, tests, more = (
        (first, theirs, no, more_theirs) if second is Flow.NEXT else (second, ours, yes, more_ours)
    )
    machine.journal.replay(remaining)
    # the rest of the block runs only where the other side did not end it
    silent = ended is Flow.RAISE
    machine.path.extend(Test(test.text, test.holds, test.scope, silent or test.silent) for test in tests)
    machine.path.extend(more)
    return Flow.NEXT


def run_side(machine: Machine, tests: list[Test], run: Side, mark: int) -> tuple[Flow, Changes, list[Test]]:
    """Run one side and undo it: how it ends, what it changes, and what it adds to the path."""
    with machine.under(*tests):
        inside = len(machine.path)
        flow = run()
        more = machine.path[inside:]
    return flow, machine.journal.rewind(mark), more
