"""Loops: their body is read once, and what it steps or appends to is unknown afterwards."""

from __future__ import annotations

import libcst as cst

from vramlint.readers.python.attributes import PARAMETER
from vramlint.readers.python.choices import among, narrow
from vramlint.readers.python.machine import Flow, Machine
from vramlint.readers.python.objects import LibraryObject, Object, Scope, Sequence
from vramlint.readers.python.targets import assign
from vramlint.readers.python.truth import decide
from vramlint.text import Place
from vramlint.values import Unknown

MAX_NAMED = 4
"""Up to this many known elements the loop variable is one of them; beyond, it is unknown."""


def run_for(machine: Machine, node: cst.For, scope: Scope) -> Flow:
    """`for target in elements`."""
    source = narrow(machine.evaluate(node.iter, scope), machine.path)
    elements = source.elements if isinstance(source, Sequence) else None
    if elements == ():
        return _else(machine, node.orelse, scope)
    value: Object = _element(source, machine.place(node.iter))
    if elements is not None and len(elements) <= MAX_NAMED:
        value = among(elements, machine.text(node.target), machine.new_scope(None, "loop").serial)
    mark = machine.journal.mark()
    with machine.under():
        assign(machine, node.target, value, scope)
        flow = machine.execute(node.body.body, scope)
    if elements is None or len(elements) != 1:
        machine.journal.blur(machine.journal.changed_since(mark))
    return flow if flow is Flow.RETURN and elements is not None else _else(machine, node.orelse, scope)


def _element(source: Object, place: Place) -> Object:
    """What a loop yields whose elements are not known; of a module's parameters it is known whose they are."""
    unknown = Unknown("element of a loop", place)
    if not isinstance(source, LibraryObject) or source.callee not in (".parameters", ".named_parameters"):
        return unknown
    parameter = LibraryObject(PARAMETER, (), (), place, receiver=source.receiver)
    return parameter if source.callee == ".parameters" else Sequence.of((unknown, parameter), place)


def run_while(machine: Machine, node: cst.While, scope: Scope) -> Flow:
    """`while condition`."""
    found, _ = decide(machine, node.test, scope)
    if found is False:
        return _else(machine, node.orelse, scope)
    mark = machine.journal.mark()
    with machine.under():
        flow = machine.execute(node.body.body, scope)
    machine.journal.blur(machine.journal.changed_since(mark))
    return flow if flow is Flow.RETURN and found else _else(machine, node.orelse, scope)


def _else(machine: Machine, node: cst.Else | None, scope: Scope) -> Flow:
    return machine.execute(node.body.body, scope) if node is not None else Flow.NEXT
