"""Comprehensions over known elements; over anything else their calls are seen once and the result is unknown."""

from __future__ import annotations

import libcst as cst

from vramlint.readers.python.iteration import elements_of
from vramlint.readers.python.machine import Machine
from vramlint.readers.python.modules import MAX_LAYERS, builds
from vramlint.readers.python.objects import Mapping, Object, Scope, Sequence, Slot
from vramlint.readers.python.targets import assign
from vramlint.readers.python.truth import truth
from vramlint.values import Scalar, Unknown

MAX_ELEMENTS = 256
"""More turns than this are not taken one by one."""

MAX_ROWS = 4096
"""Results of one comprehension."""

Comprehension = cst.ListComp | cst.SetComp | cst.GeneratorExp | cst.DictComp


def evaluate_comprehension(machine: Machine, node: Comprehension, scope: Scope) -> Object:
    """The list or dict that a comprehension builds."""
    inner = machine.new_scope(scope, "comprehension")
    rows: list[tuple[Object, Object]] = []
    complete = _turns(machine, node, node.for_in, inner, rows)
    place = machine.place(node)
    if not complete:
        return Unknown("elements that only run time knows", place)
    if isinstance(node, cst.DictComp):
        if not all(isinstance(key, Scalar) for key, _ in rows):
            return Unknown("keys that only run time knows", place)
        return Mapping(
            {str(key.value): Slot(key.place, value, key) for key, value in rows if isinstance(key, Scalar)}, place
        )
    return Sequence.of(tuple(value for _, value in rows), place)


def _turns(
    machine: Machine, node: Comprehension, loop: cst.CompFor, scope: Scope, rows: list[tuple[Object, Object]]
) -> bool:
    """Run one `for` of the comprehension; False when its elements or conditions are not known."""
    source = machine.evaluate(loop.iter, scope)
    elements = elements_of(source)
    building = builds(machine)
    complete = elements is not None and len(elements) <= (MAX_LAYERS if building else MAX_ELEMENTS)
    turns = elements if elements is not None and complete else (Unknown("element of a loop", machine.place(loop.iter)),)
    for number, element in enumerate(turns):
        with machine.repeating(again=building and number > 0):
            assign(machine, loop.target, element, scope)
            kept = [truth(machine.evaluate(condition.test, scope)) for condition in loop.ifs]
            if False in kept:
                continue
            complete = complete and None not in kept
            if loop.inner_for_in is not None:
                complete = _turns(machine, node, loop.inner_for_in, scope, rows) and complete
            else:
                rows.append(_row(machine, node, scope))
    return complete and len(rows) <= MAX_ROWS


def _row(machine: Machine, node: Comprehension, scope: Scope) -> tuple[Object, Object]:
    if isinstance(node, cst.DictComp):
        return machine.evaluate(node.key, scope), machine.evaluate(node.value, scope)
    return Scalar(None), machine.evaluate(node.elt, scope)
