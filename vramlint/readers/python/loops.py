"""Loops: taken turn by turn where that is known and makes no calls, otherwise their body is read once.

After a body that is read once, what it steps or appends to is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import libcst as cst

from vramlint.readers.python.attributes import PARAMETER
from vramlint.readers.python.choices import among, narrow
from vramlint.readers.python.commandline.words import are_words
from vramlint.readers.python.iteration import elements_of
from vramlint.readers.python.machine import MAX_STEPS, Flow, Machine
from vramlint.readers.python.modules import MAX_LAYERS, builds, leaves_early
from vramlint.readers.python.objects import (
    LibraryObject,
    Object,
    Scope,
    Sequence,
)
from vramlint.readers.python.targets import assign
from vramlint.readers.python.trials import GivenUp, Trial
from vramlint.readers.python.truth import decide
from vramlint.text import Place
from vramlint.values import Unknown

MAX_NAMED = 4
"""Up to this many known elements the loop variable is one of them; beyond, it is unknown."""

MAX_TURNS = 256
"""More turns than this are not taken one by one."""


def run_for(machine: Machine, node: cst.For, scope: Scope) -> Flow:
    """`for target in elements`."""
    machine.trail.loops.append(machine.place(node.iter))
    try:
        return _for(machine, node, scope)
    finally:
        machine.trail.loops.pop()


def _for(machine: Machine, node: cst.For, scope: Scope) -> Flow:
    source = narrow(machine.evaluate(node.iter, scope), machine.path)
    elements = elements_of(source)
    if elements == ():
        return _else(machine, node.orelse, scope)
    if elements is not None and are_words(machine, elements):
        return _in_turn(machine, node, elements, scope)
    if elements is not None and len(elements) <= MAX_LAYERS and builds(machine) and not leaves_early(node):
        return _turn_by_turn(machine, node, scope, elements)
    if elements is not None and len(elements) <= MAX_TURNS:

        def turn(element: Object) -> Flow:
            assign(machine, node.target, element, scope)
            return machine.execute(node.body.body, scope)

        flow = _turns(machine, (partial(turn, element) for element in elements))
        if flow is not None:
            return _else(machine, node.orelse, scope) if flow is Flow.NEXT else _after(flow)
    value: Object = _element(source, machine.place(node.iter))
    if elements is not None and len(elements) <= MAX_NAMED:
        value = among(elements, machine.text(node.target), machine.new_scope(None, "loop").serial)
    many = elements is None or len(elements) != 1
    mark = machine.journal.mark()
    machine.loose += many
    with machine.under():
        assign(machine, node.target, value, scope)
        flow = machine.execute(node.body.body, scope)
    machine.loose -= many
    if many:
        machine.journal.blur(machine.journal.changed_since(mark))
    return flow if flow is Flow.RETURN and elements is not None else _else(machine, node.orelse, scope)


def _in_turn(machine: Machine, node: cst.For, elements: tuple[Object, ...], scope: Scope) -> Flow:
    """The words of the command line, which a program goes through in order: the last of a name wins."""
    for element in elements:
        with machine.under():
            assign(machine, node.target, element, scope)
            flow = machine.execute(node.body.body, scope)
        if flow is Flow.RETURN:
            return flow
    return _else(machine, node.orelse, scope)


def _after(flow: Flow) -> Flow:
    return Flow.NEXT if flow in (Flow.BREAK, Flow.CONTINUE) else flow


def _turns(machine: Machine, turns: Iterable[Callable[[], Flow]]) -> Flow | None:
    """Take the turns of a loop one by one; how they end, BREAK where one of them does.

    None, with everything undone, where only run time knows which turns are taken to their end, or where a turn makes
    calls: then it is a job of its own, and the loop stands for several.
    """
    journal, frame = machine.journal, machine.frames[-1] if machine.frames else None
    mark, calls, loose = journal.mark(), len(machine.calls), machine.loose
    returns, yields = (len(frame.returns), len(frame.yields)) if frame else (0, 0)
    outer = machine.trial
    machine.trial = trial = Trial(machine.calls, outer)
    try:
        flow = _tried(machine, turns, trial)
    except GivenUp as end:
        if end.trial is not trial:
            raise
        flow, machine.loose = None, loose
    finally:
        machine.trial = outer
    if flow is None:
        journal.rewind(mark)
        del machine.calls[calls:]
        if frame:
            del frame.returns[returns:], frame.yields[yields:]
    return flow


def _tried(machine: Machine, turns: Iterable[Callable[[], Flow]], trial: Trial) -> Flow | None:
    splits = machine.splits
    for number, take in enumerate(turns):
        with machine.under():
            flow = take()
        if machine.splits != splits or machine.steps > MAX_STEPS or number >= MAX_TURNS or trial.is_loud:
            return None
        if flow in (Flow.BREAK, Flow.RETURN, Flow.RAISE):
            return flow
    return Flow.NEXT


def _turn_by_turn(machine: Machine, node: cst.For, scope: Scope, elements: tuple[Object, ...]) -> Flow:
    """A loop in which a module makes its layers."""
    for number, element in enumerate(elements):
        with machine.repeating(again=number > 0), machine.under():
            assign(machine, node.target, element, scope)
            machine.execute(node.body.body, scope)
    return _else(machine, node.orelse, scope)


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
    if found:
        flow = _turns(machine, _while_true(machine, node, scope))
        if flow is not None and (flow is not Flow.NEXT or decide(machine, node.test, scope)[0] is False):
            return _else(machine, node.orelse, scope) if flow is Flow.NEXT else _after(flow)
    mark = machine.journal.mark()
    machine.loose += 1
    with machine.under():
        flow = machine.execute(node.body.body, scope)
    machine.loose -= 1
    machine.journal.blur(machine.journal.changed_since(mark))
    return flow if flow is Flow.RETURN and found else _else(machine, node.orelse, scope)


def _while_true(machine: Machine, node: cst.While, scope: Scope) -> Iterator[Callable[[], Flow]]:
    while decide(machine, node.test, scope)[0]:
        yield partial(machine.execute, node.body.body, scope)


def _else(machine: Machine, node: cst.Else | None, scope: Scope) -> Flow:
    return machine.execute(node.body.body, scope) if node is not None else Flow.NEXT
