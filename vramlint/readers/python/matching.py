"""`match` statements as chains of branches."""

from __future__ import annotations

import libcst as cst

from vramlint.readers.python.branches import decided, fork
from vramlint.readers.python.choices import narrow
from vramlint.readers.python.conditions import Test
from vramlint.readers.python.machine import Flow, Machine
from vramlint.readers.python.objects import Object, Scope
from vramlint.readers.python.operators import compare
from vramlint.readers.python.targets import assign
from vramlint.readers.python.truth import truth
from vramlint.values import Unknown


def run_match(machine: Machine, node: cst.Match, scope: Scope) -> Flow:
    """Try the cases in order."""
    subject = narrow(machine.evaluate(node.subject, scope), machine.path)
    return _case(machine, node, 0, subject, scope)


def _case(machine: Machine, node: cst.Match, index: int, subject: Object, scope: Scope) -> Flow:
    if index >= len(node.cases):
        return Flow.NEXT
    case = node.cases[index]

    def body() -> Flow:
        _capture(machine, case.pattern, subject, scope)
        return machine.execute(case.body.body, scope)

    def other() -> Flow:
        return _case(machine, node, index + 1, subject, scope)

    found = _matches(machine, case.pattern, subject, scope)
    if case.guard is not None and found:
        found = truth(machine.evaluate(case.guard, scope))
    if found is not None:
        return decided(machine, body, other) if found else other()
    text = f"case {index + 1} of match {machine.text(node.subject)}"
    serial = scope.serial
    return fork(machine, [Test(text, True, serial)], [Test(text, False, serial)], body, other)


def _matches(machine: Machine, pattern: cst.MatchPattern, subject: Object, scope: Scope) -> bool | None:
    if isinstance(pattern, cst.MatchAs):
        return True if pattern.pattern is None else _matches(machine, pattern.pattern, subject, scope)
    if isinstance(pattern, cst.MatchOr):
        found = [_matches(machine, item.pattern, subject, scope) for item in pattern.patterns]
        return True if True in found else None if None in found else False
    if isinstance(pattern, (cst.MatchValue, cst.MatchSingleton)):
        value = machine.evaluate(pattern.value, scope)
        return truth(compare(cst.Equal(), subject, value, machine.place(pattern.value)))
    return None


def _capture(machine: Machine, pattern: cst.MatchPattern, subject: Object, scope: Scope) -> None:
    if isinstance(pattern, cst.MatchAs) and pattern.name is not None:
        whole = pattern.pattern is None or isinstance(
            pattern.pattern, (cst.MatchValue, cst.MatchSingleton, cst.MatchOr)
        )
        assign(machine, pattern.name, subject if whole else Unknown("part of a match"), scope)
