"""`def` and `class`."""

from __future__ import annotations

import libcst as cst

from vramlint.readers.python.functions import define
from vramlint.readers.python.machine import Flow, Machine
from vramlint.readers.python.neighbours import home_of
from vramlint.readers.python.objects import Class, Field, FieldSpec, Object, Scope, decorator_name
from vramlint.readers.python.targets import assign

_DATACLASS_DECORATORS = frozenset({"dataclass", "define", "frozen", "attrs", "s"})


def define_function(machine: Machine, node: cst.FunctionDef, scope: Scope) -> Flow:
    """Bind a function; its body runs when it is called."""
    decorators = tuple(machine.evaluate(item.decorator, scope) for item in node.decorators)
    function = define(machine, node, scope, decorators)
    if home_of(scope) is None:  # of other modules only that runs which the script calls
        machine.functions.append(function)
    assign(machine, node.name, function, scope)
    return Flow.NEXT


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
    machine.classes.append(made)
    assign(machine, node.name, made, scope)
    return Flow.NEXT


def _fields(machine: Machine, node: cst.ClassDef, scope: Scope) -> list[Field]:
    """The annotated names of a class body with what they are set to."""
    found = []
    for line in node.body.body:
        for statement in line.body if isinstance(line, cst.SimpleStatementLine) else ():
            if isinstance(statement, cst.AnnAssign) and isinstance(statement.target, cst.Name):
                value: Object | None = scope.state.get(statement.target.value)
                spec = value if isinstance(value, FieldSpec) else FieldSpec(value)
                name, annotation = statement.target, statement.annotation.annotation
                found.append(Field(name.value, machine.place(name), spec, annotation))
    return found
