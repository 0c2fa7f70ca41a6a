"""`def` and `class`."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from vramlint.readers.python.attributes import SETTER
from vramlint.readers.python.enums import define_members, is_enum
from vramlint.readers.python.functions import define
from vramlint.readers.python.machine import Arguments, Flow, Machine, Site
from vramlint.readers.python.neighbours import home_of
from vramlint.readers.python.objects import (
    BoundMethod,
    Class,
    Field,
    FieldSpec,
    Function,
    Object,
    Partial,
    Scope,
    decorator_name,
)
from vramlint.readers.python.targets import assign

_DATACLASS_DECORATORS = frozenset({"dataclass", "define", "frozen", "attrs", "s"})


def define_function(machine: Machine, node: cst.FunctionDef, scope: Scope) -> Flow:
    """Bind a function; its body runs when it is called."""
    decorators = tuple(machine.evaluate(item.decorator, scope) for item in node.decorators)
    function = define(machine, node, scope, decorators)
    accessor = next((item for item in decorators if decorator_name(item) in (SETTER, ".deleter")), None)
    if accessor is not None:  # the name goes on standing for the property
        machine.journal.put(scope.state, f"{function.name}{decorator_name(accessor)}", function)
        return Flow.NEXT
    if home_of(scope) is None:  # of other modules only that runs which the script calls
        machine.functions.append(function)
    assign(machine, node.name, _decorated(machine, function, node, decorators, scope), scope)
    return Flow.NEXT


def _decorated(
    machine: Machine,
    made: Function | Class,
    node: cst.FunctionDef | cst.ClassDef,
    decorators: Sequence[Object],
    scope: Scope,
) -> Object:
    """What the project's own decorators make of a function or class; all others leave it what it is."""
    found: Object = made
    for written, decorator in zip(reversed(node.decorators), reversed(decorators), strict=True):
        if not isinstance(decorator, (Function, BoundMethod, Partial)):
            continue
        place = machine.place(written.decorator)
        given = machine.invoke(Site(decorator, Arguments((found,)), written.decorator, scope, place))
        if isinstance(given, (Function, Class, Partial, BoundMethod)):
            found = given
    return found


def define_class(machine: Machine, node: cst.ClassDef, scope: Scope) -> Flow:
    """Run a class body and bind the class."""
    bases = tuple(machine.evaluate(item.value, scope) for item in node.bases)
    decorators = [machine.evaluate(item.decorator, scope) for item in node.decorators]
    inner = machine.new_scope(scope, "class")
    made = Class(node.name.value, machine.place(node.name), bases, inner)
    made.is_dataclass = any(decorator_name(item).rpartition(".")[2] in _DATACLASS_DECORATORS for item in decorators)
    inner.owner = made
    machine.execute(node.body.body, inner)
    made.fields = tuple(_fields(machine, node, inner))
    for entry in made.fields:
        if entry.spec.default is not None:
            inner.state[entry.name] = entry.spec.default
        elif isinstance(inner.state.get(entry.name), FieldSpec):
            del inner.state[entry.name]
    if is_enum(made):
        define_members(machine, made)
    machine.classes.append(made)
    assign(machine, node.name, _decorated(machine, made, node, decorators, scope), scope)
    return Flow.NEXT


def _fields(machine: Machine, node: cst.ClassDef, scope: Scope) -> list[Field]:
    """The annotated names of a class body with what they are set to."""
    found = []
    value: Object | None
    for line in node.body.body:
        for statement in line.body if isinstance(line, cst.SimpleStatementLine) else ():
            if isinstance(statement, cst.Assign) and isinstance(target := statement.targets[0].target, cst.Name):
                value = scope.state.get(target.value)
                if isinstance(value, FieldSpec):  # attrs without annotations
                    found.append(Field(target.value, machine.place(target), value))
            if isinstance(statement, cst.AnnAssign) and isinstance(statement.target, cst.Name):
                value = scope.state.get(statement.target.value)
                spec = value if isinstance(value, FieldSpec) else FieldSpec(value)
                name, annotation = statement.target, statement.annotation.annotation
                found.append(Field(name.value, machine.place(name), spec, annotation))
    return found
