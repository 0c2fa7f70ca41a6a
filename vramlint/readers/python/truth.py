"""Whether conditions hold: decided, or None for those that only run time decides."""

from __future__ import annotations

import libcst as cst

from vramlint.readers.python.choices import narrow
from vramlint.readers.python.conditions import Test
from vramlint.readers.python.machine import Machine
from vramlint.readers.python.objects import (
    Attribute,
    BoundMethod,
    Choice,
    Class,
    Function,
    LibraryObject,
    Mapping,
    Object,
    Scope,
    Sequence,
)
from vramlint.values import Name, Scalar

DTYPES = {
    **dict.fromkeys(("torch.bfloat16", "torch.float16", "torch.half", "torch.float32", "torch.float"), True),
    **dict.fromkeys(("torch.uint8", "torch.int8", "torch.int16", "torch.int32", "torch.int64", "torch.bool"), False),
}
"""torch's dtypes, and whether they are of floats."""


def truth(item: Object) -> bool | None:
    """The truth value of an object."""
    match item:
        case Scalar():
            return bool(item.value)
        case Sequence():
            elements = item.elements
            return None if elements is None else bool(elements)
        case Mapping():
            return True if item.slots() else (None if item.open else False)
        case Function() | Class() | BoundMethod():
            return True
        case Name(qualified=qualified) if qualified in DTYPES:
            return True
        case LibraryObject():
            return True if is_constructor(item.callee) else None
        case Choice():
            found = {truth(option) for option, _ in item.options}
            return found.pop() if len(found) == 1 else None
    return None


def is_constructor(callee: str) -> bool:
    """Whether a call surely gives an object: a class by its spelling, or a loading class method."""
    last = callee.rpartition(".")[2]
    return last[:1].isupper() or last in {"from_pretrained", "from_config", "get_peft_model"}


def decide(machine: Machine, node: cst.BaseExpression, scope: Scope) -> tuple[bool | None, Object | None]:
    """Whether a condition holds, and the object it was read from if it is no boolean operation.

    An undecided part whose text was already assumed on the way here comes out as assumed.
    """
    if type(node) is cst.BooleanOperation:
        return _decide_operation(machine, node, scope), None
    if type(node) is cst.UnaryOperation and type(node.operator) is cst.Not:
        inner, _ = decide(machine, node.expression, scope)
        return (None if inner is None else not inner), None
    item = narrow(machine.evaluate(node, scope), machine.path)
    found = truth(item)
    return (assumed(machine, node, scope) if found is None else found), item


def _decide_operation(machine: Machine, node: cst.BooleanOperation, scope: Scope) -> bool | None:
    settles = isinstance(node.operator, cst.Or)
    left, _ = decide(machine, node.left, scope)
    if left is settles:
        return settles
    with machine.under(Test(machine.text(node.left), not settles, scope.serial, silent=True)):
        right, _ = decide(machine, node.right, scope)
    if right is settles:
        # the other side can only agree or be skipped; a side that raises at run time settles nothing
        return settles
    if left is None or right is None:
        return assumed(machine, node, scope)
    return not settles


def assumed(machine: Machine, node: cst.BaseExpression, scope: Scope) -> bool | None:
    """How the undecided conditions around this point assume the text of `node`."""
    text = machine.text(node)
    for test in reversed(machine.path):
        if test.text == text and test.scope == scope.serial:
            return test.holds
    return None


def tests_for(
    machine: Machine, node: cst.BaseExpression, scope: Scope, item: Object | None
) -> tuple[list[Test], list[Test]]:
    """The tests that hold in the branch and in the other one of an undecided condition.

    Besides the condition's own text these are the tests behind it, where the condition is a choice of which
    only one option is true (or false): `ddp = world_size != 1` … `if ddp:`.
    """
    text = machine.text(node)
    yes, no = [Test(text, True, scope.serial)], [Test(text, False, scope.serial)]
    while isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Not):
        node = node.expression
        inner = machine.text(node)
        holds = not yes[-1].holds
        yes, no = [Test(inner, holds, scope.serial)], [Test(inner, not holds, scope.serial)]
    for side, wanted in ((yes, True), (no, False)):
        if isinstance(node, cst.BooleanOperation) and isinstance(node.operator, cst.And) is wanted:
            side += [Test(machine.text(part), wanted, scope.serial, silent=True) for part in (node.left, node.right)]
        if isinstance(item, Choice):
            fitting = [tests for option, tests in item.options if truth(option) is not (not wanted)]
            if len(fitting) == 1:
                side += [Test(test.text, test.holds, test.scope, silent=True) for test in fitting[0]]
    return yes, no


def is_none(item: Object) -> bool | None:
    """Whether an object is None."""
    match item:
        case Scalar():
            return item.value is None
        case LibraryObject():
            return False if is_constructor(item.callee) else None
        case Attribute() | Choice():
            return None
        case Sequence() | Mapping() | Function() | Class() | BoundMethod():
            return False
    return None
