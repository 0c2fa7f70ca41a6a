"""`try` statements: the body, or the handler where the body surely raises or needs what may not be installed."""

from __future__ import annotations

import libcst as cst

from vramlint.readers.python.branches import run_side
from vramlint.readers.python.conditions import Test
from vramlint.readers.python.imports import dotted
from vramlint.readers.python.journal import Changes
from vramlint.readers.python.machine import Flow, Machine
from vramlint.readers.python.neighbours import STANDARD_LIBRARY, absolute, home_of, import_module
from vramlint.readers.python.objects import Scope
from vramlint.values import Scalar

_INSTALLED = frozenset({"accelerate", "datasets", "numpy", "tokenizers", "torch", "tqdm", "transformers"})
"""Packages that nothing works without here; whether any other one is installed, only run time knows."""

_CACHES = frozenset({"datasets.load_from_disk", "datasets.Dataset.load_from_disk"})
"""What reads back the data that an earlier run left: the first run goes the way of the handler."""

_IMPORT_ERRORS = frozenset({"", "ImportError", "ModuleNotFoundError", "Exception", "BaseException"})


def run_try(machine: Machine, node: cst.Try | cst.TryStar, scope: Scope) -> Flow:
    """`try` with its handlers, `else` and `finally`."""
    handler = _handler_of_imports(node)
    doubtful = _doubtful_import(machine, node, scope) if handler is not None else None
    if handler is not None and doubtful is not None:
        flow = _either(machine, node, handler, Test(machine.text(doubtful), True, scope.serial), scope)
    else:
        flow = _attempt(machine, node, scope)
    if node.finalbody is not None:
        last = machine.execute(node.finalbody.body.body, scope)
        flow = flow if last is Flow.NEXT else last
    return flow


def _attempt(machine: Machine, node: cst.Try | cst.TryStar, scope: Scope) -> Flow:
    flow, failed = _body(machine, node, scope) if node.handlers else (machine.execute(node.body.body, scope), False)
    if (failed or flow is Flow.RAISE) and node.handlers:
        return machine.execute(node.handlers[0].body.body, scope)
    if flow is Flow.NEXT and node.orelse is not None:
        return machine.execute(node.orelse.body.body, scope)
    return flow


def _body(machine: Machine, node: cst.Try | cst.TryStar, scope: Scope) -> tuple[Flow, bool]:
    """Run the body up to a statement that raises, surely or in the first run, which is undone; whether there is one."""
    outer, machine.failures = machine.failures, []
    depth = len(machine.path)
    try:
        for statement in node.body.body:
            mark, calls = machine.journal.mark(), len(machine.calls)
            with machine.holding():
                flow = machine.execute([statement], scope)
                failed = depth in machine.failures or any(call.callee in _CACHES for call in machine.calls[calls:])
                if failed:
                    machine.journal.rewind(mark)
                    del machine.calls[calls:]
            if failed:
                return flow, True
            if flow is not Flow.NEXT:
                return flow, False
        return Flow.NEXT, False
    finally:
        machine.failures = outer


def _handler_of_imports(node: cst.Try | cst.TryStar) -> cst.BaseSuite | None:
    """The handler that runs where an import fails."""
    for handler in node.handlers:
        kinds = handler.type.elements if isinstance(handler.type, cst.Tuple) else None
        names = [dotted(kind.value) for kind in kinds] if kinds is not None else [dotted(handler.type)]
        if _IMPORT_ERRORS.intersection(names):
            return handler.body
    return None


def _doubtful_import(machine: Machine, node: cst.Try | cst.TryStar, scope: Scope) -> cst.CSTNode | None:
    """The first import of the body that not every machine can make."""
    for line in node.body.body:
        for item in line.body if isinstance(line, cst.SimpleStatementLine) else ():
            names = []
            if isinstance(item, cst.Import):
                names = [dotted(alias.name) for alias in item.names]
            elif isinstance(item, cst.ImportFrom) and not item.relative:
                names = [dotted(item.module)]
            if any(_is_doubtful(machine, name, scope) for name in names):
                return item
    return None


def _is_doubtful(machine: Machine, name: str, scope: Scope) -> bool:
    top = name.partition(".")[0]
    if top in _INSTALLED or top in STANDARD_LIBRARY:
        return False
    imported = any(other.partition(".")[0] == top for other in machine.imports)
    return not imported and import_module(machine, absolute(home_of(scope), name)) is None


def _either(machine: Machine, node: cst.Try | cst.TryStar, handler: cst.BaseSuite, test: Test, scope: Scope) -> Flow:
    """The body, as if everything were installed; but plain values that the handler sets otherwise are undecided.

    Stand-ins that a handler defines for what is missing are of no interest.
    """

    def body() -> Flow:
        flow = machine.execute(node.body.body, scope)
        return machine.execute(node.orelse.body.body, scope) if flow is Flow.NEXT and node.orelse else flow

    mark, returns = machine.journal.mark(), machine.frames[-1].returns if machine.frames else []
    first, ours, more = run_side(machine, [test], body, mark)
    calls, own = len(machine.calls), len(returns)
    no = Test(test.text, False, test.scope)
    with machine.holding():
        second, theirs, _ = run_side(machine, [no], lambda: machine.execute(handler.body, scope), mark)
        del machine.calls[calls:]
    if first is not second or not all(isinstance(value, Scalar) for value, _ in returns[own:]):
        del returns[own:]
        machine.journal.replay(ours)
        machine.path.extend(more)
        return first
    machine.journal.merge(ours, _plain_differences(ours, theirs), test)
    return first


def _plain_differences(ours: Changes, theirs: Changes) -> Changes:
    """Their side where both set something plain, ours for everything else."""
    return {
        place: theirs[place]
        if place in theirs and isinstance(theirs[place].value, Scalar) and isinstance(change.value, Scalar)
        else change
        for place, change in ours.items()
    }
