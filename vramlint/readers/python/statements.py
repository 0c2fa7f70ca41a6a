"""What statements do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

import libcst as cst

from vramlint.readers.python.attempts import run_try
from vramlint.readers.python.branches import decided, fork
from vramlint.readers.python.conditions import Test
from vramlint.readers.python.contexts import run_with
from vramlint.readers.python.decisions import branch, leave_rest
from vramlint.readers.python.definitions import define_class, define_function
from vramlint.readers.python.imports import dotted, import_from, import_modules
from vramlint.readers.python.loops import run_for, run_while
from vramlint.readers.python.machine import Flow, Machine
from vramlint.readers.python.matching import run_match
from vramlint.readers.python.objects import Instance, Scope
from vramlint.readers.python.operators import binary
from vramlint.readers.python.subscripts import delete_element
from vramlint.readers.python.targets import assign
from vramlint.readers.python.truth import decide, tests_for
from vramlint.values import Scalar, Unknown

Executor = Callable[[Machine, Any, Scope], Flow]

_EXITS = frozenset({"sys.exit", "exit", "quit", "os._exit"})


def execute(machine: Machine, body: Sequence[cst.CSTNode], scope: Scope) -> Flow:
    """Run statements until one of them ends the block."""
    for index, node in enumerate(body):
        executor = _EXECUTORS.get(type(node))
        if executor is None:
            continue
        machine.steps += 1
        flow = executor(machine, node, scope)
        if flow is not Flow.NEXT:
            if flow is Flow.RETURN and isinstance(node, cst.If):
                leave_rest(machine, node, body[index + 1 :], scope)
            return flow
    return Flow.NEXT


def _line(machine: Machine, node: cst.SimpleStatementLine, scope: Scope) -> Flow:
    return execute(machine, node.body, scope)


def _expression(machine: Machine, node: cst.Expr, scope: Scope) -> Flow:
    if type(node.value) is cst.SimpleString:
        return Flow.NEXT  # a docstring
    if type(node.value) is cst.Call and dotted(node.value.func) in _EXITS:
        return _exit(machine, node.value, scope)
    machine.statement = node.value
    machine.evaluate(node.value, scope)
    return Flow.NEXT


def _exit(machine: Machine, node: cst.Call, scope: Scope) -> Flow:
    """`sys.exit(…)`; with `main()` in it, the program itself and no way out of it."""
    if not (node.args and isinstance(node.args[0].value, cst.Call)):
        return Flow.RAISE
    before = len(machine.calls)
    machine.evaluate(node.args[0].value, scope)
    return Flow.RETURN if len(machine.calls) > before else Flow.RAISE


def _assign(machine: Machine, node: cst.Assign, scope: Scope) -> Flow:
    value = machine.evaluate(node.value, scope)
    for target in node.targets:
        assign(machine, target.target, value, scope)
    return Flow.NEXT


def _annotated(machine: Machine, node: cst.AnnAssign, scope: Scope) -> Flow:
    if node.value is not None:
        assign(machine, node.target, machine.evaluate(node.value, scope), scope)
    return Flow.NEXT


def _augmented(machine: Machine, node: cst.AugAssign, scope: Scope) -> Flow:
    left = machine.evaluate(node.target, scope)
    right = machine.evaluate(node.value, scope)
    place = machine.place(node.value)
    found = binary(type(node.operator), left, right, place)
    counts = isinstance(node.operator, (cst.AddAssign, cst.SubtractAssign))
    if machine.loose and counts and isinstance(found, Scalar) and isinstance(found.value, (int, float)):
        found = Unknown("a counter of a loop", place)  # the body is read once for all of the loop's turns
    assign(machine, node.target, found, scope)
    return Flow.NEXT


def _return(machine: Machine, node: cst.Return, scope: Scope) -> Flow:
    value = Scalar(None, None, "computed") if node.value is None else machine.evaluate(node.value, scope)
    if machine.frames:
        frame = machine.frames[-1]
        frame.returns.append((value, tuple(machine.path[frame.base :])))
    return Flow.RETURN


def _raise(machine: Machine, node: cst.Raise, scope: Scope) -> Flow:
    if isinstance(node.exc, cst.Call) and dotted(node.exc.func) == "SystemExit":
        return _exit(machine, node.exc, scope)
    return Flow.RAISE  # what an exception says is of no interest


def _leave(machine: Machine, node: cst.Break | cst.Continue, scope: Scope) -> Flow:
    del machine, scope
    return Flow.BREAK if isinstance(node, cst.Break) else Flow.CONTINUE


def _assert(machine: Machine, node: cst.Assert, scope: Scope) -> Flow:
    found, item = decide(machine, node.test, scope)
    if found is None:
        yes, _ = tests_for(machine, node.test, scope, item)
        machine.path.extend(Test(test.text, test.holds, test.scope, silent=True) for test in yes)
    return Flow.NEXT


def _delete(machine: Machine, node: cst.Del, scope: Scope) -> Flow:
    targets = (
        [element.value for element in node.target.elements] if isinstance(node.target, cst.Tuple) else [node.target]
    )
    for target in targets:
        if isinstance(target, cst.Name):
            machine.journal.remove(scope.state, target.value)
        elif isinstance(target, cst.Subscript):
            delete_element(machine, machine.evaluate(target.value, scope), target, scope)
        elif isinstance(target, cst.Attribute):
            item = machine.evaluate(target.value, scope)
            if isinstance(item, Instance):
                machine.journal.remove(item.state, target.attr.value)
    return Flow.NEXT


def _global(machine: Machine, node: cst.Global, scope: Scope) -> Flow:
    del machine
    top = scope.top()
    for item in node.names:
        if top.define is not None:
            top.define(item.name.value)  # before it is bound anew
        scope.outer_names[item.name.value] = top
    return Flow.NEXT


def _nonlocal(machine: Machine, node: cst.Nonlocal, scope: Scope) -> Flow:
    del machine
    for item in node.names:
        outer = scope.parent
        while outer is not None and item.name.value not in outer.state:
            outer = outer.parent
        if outer is not None:
            scope.outer_names[item.name.value] = outer
    return Flow.NEXT


def _if(machine: Machine, node: cst.If, scope: Scope) -> Flow:
    def body() -> Flow:
        return execute(machine, node.body.body, scope)

    def other() -> Flow:
        if isinstance(node.orelse, cst.If):
            return _if(machine, node.orelse, scope)
        return execute(machine, node.orelse.body.body, scope) if node.orelse is not None else Flow.NEXT

    found, item = decide(machine, node.test, scope)
    if found is not None:
        with machine.decided_by(branch(machine, node, scope, holds=found)):
            return decided(machine, body, other) if found else decided(machine, other, body)
    yes, no = tests_for(machine, node.test, scope, item)
    return fork(machine, yes, no, body, other)


_EXECUTORS: MappingProxyType[type[cst.CSTNode], Executor] = MappingProxyType(
    {
        cst.SimpleStatementLine: _line,
        cst.Expr: _expression,
        cst.Assign: _assign,
        cst.AnnAssign: _annotated,
        cst.AugAssign: _augmented,
        cst.Return: _return,
        cst.Raise: _raise,
        cst.Break: _leave,
        cst.Continue: _leave,
        cst.Assert: _assert,
        cst.Del: _delete,
        cst.Global: _global,
        cst.Nonlocal: _nonlocal,
        cst.Import: import_modules,
        cst.ImportFrom: import_from,
        cst.If: _if,
        cst.For: run_for,
        cst.While: run_while,
        cst.Try: run_try,
        cst.TryStar: run_try,
        cst.With: run_with,
        cst.Match: run_match,
        cst.FunctionDef: define_function,
        cst.ClassDef: define_class,
    }
)
