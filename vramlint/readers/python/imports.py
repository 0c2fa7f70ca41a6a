"""Imports: which qualified names the file's names stand for."""

from __future__ import annotations

import libcst as cst

from vramlint.readers.python.lazy import Pending
from vramlint.readers.python.machine import Flow, Machine
from vramlint.readers.python.neighbours import absolute, home_of, import_member, import_module, import_package
from vramlint.readers.python.objects import Object, Scope
from vramlint.values import Name


def dotted(node: cst.BaseExpression | None) -> str:
    """`a.b.c` as text."""
    parts: list[str] = []
    while type(node) is cst.Attribute:
        parts.append(node.attr.value)
        node = node.value
    if type(node) is cst.Name:
        parts.append(node.value)
    return ".".join(reversed(parts))


def import_modules(machine: Machine, node: cst.Import, scope: Scope) -> Flow:
    """`import a.b`, `import a.b as c`."""
    for item in node.names:
        module = dotted(item.name)
        machine.imports[module] = None
        place = machine.place(item.name)
        if item.asname is not None and isinstance(item.asname.name, cst.Name):
            _bind(machine, item.asname.name.value, import_module(machine, module) or Name(module, place), scope)
        else:
            top = module.partition(".")[0]
            _bind(machine, top, import_package(machine, module) or Name(top, place), scope)
    return Flow.NEXT


def import_from(machine: Machine, node: cst.ImportFrom, scope: Scope) -> Flow:
    """`from a.b import c as d`; relative modules keep their dots."""
    module = absolute(home_of(scope), "." * len(node.relative) + dotted(node.module))
    if isinstance(node.names, cst.ImportStar):
        machine.imports[f"{module}.*"] = None
        scope.top().stars.append(module)
        return Flow.NEXT
    for item in node.names:
        name = dotted(item.name)
        qualified = f"{module}{name}" if module.endswith(".") else f"{module}.{name}"
        machine.imports[qualified] = None
        local = item.asname.name.value if item.asname and isinstance(item.asname.name, cst.Name) else name
        found = import_member(machine, module, name)
        _bind(machine, local, Name(qualified, machine.place(item.name)) if found is None else found, scope)
    return Flow.NEXT


def _bind(machine: Machine, name: str, value: Object | Pending, scope: Scope) -> None:
    owner = scope.outer_names.get(name, scope)
    machine.journal.put(owner.state, name, value)
