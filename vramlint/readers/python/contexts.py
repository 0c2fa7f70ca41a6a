"""`with` statements, and the generators that serve them."""

from __future__ import annotations

import libcst as cst

from vramlint.readers.python.machine import Arguments, Flow, Machine, Site
from vramlint.readers.python.objects import (
    BoundMethod,
    Context,
    Function,
    Instance,
    LibraryObject,
    Object,
    Scope,
    Sequence,
)
from vramlint.readers.python.targets import assign
from vramlint.values import Unknown


def run_with(machine: Machine, node: cst.With, scope: Scope) -> Flow:
    """Enter the contexts, run the block; a block that is left by an exception is left by it here too."""
    for item in node.items:
        value = machine.evaluate(item.item, scope)
        entered = _entered(machine, value, Site(value, Arguments(), item.item, scope, machine.place(item.item)))
        if item.asname is not None:
            assign(machine, item.asname.name, entered, scope)
    return machine.execute(node.body.body, scope)


def _entered(machine: Machine, value: Object, site: Site) -> Object:
    """What stands behind `as`."""
    if isinstance(value, LibraryObject):
        return value
    if isinstance(value, Context):
        return value.value
    if isinstance(value, Instance) and value.kind is not None:
        enter = value.kind.member("__enter__")
        if isinstance(enter, Function):
            return machine.invoke(site.of(BoundMethod(enter, value)))
    return Unknown("a context", site.place)


def generated(function: Function, yields: list[Object], site: Site) -> Object:
    """What a call of a generator gives whose yields are known."""
    if function.decorated_with("contextmanager", "asynccontextmanager"):
        return Context(yields[0]) if yields else site.unknown("a context")
    return Sequence.of(tuple(yields), site.place)
