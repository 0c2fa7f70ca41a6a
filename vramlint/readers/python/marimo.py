"""marimo notebooks: a cell is a function, and cells run in the order in which they need one another's names.

marimo writes `@app.cell` above each cell; its parameters are the names that it needs, its `return` those that it
gives. Docs: marimo.io, "Reactivity" and "File format".
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import libcst as cst
from msgspec import Struct

from vramlint.readers.python.imports import dotted


class _Cell(Struct, frozen=True):
    body: Sequence[cst.CSTNode]
    needs: frozenset[str]
    gives: frozenset[str]
    disabled: bool


def in_order(module: cst.Module) -> Sequence[cst.CSTNode]:
    """The statements of a module as they run: of a marimo notebook the bodies of its cells, else the module's own."""
    app = _app(module)
    if app is None:
        return module.body
    head: list[cst.CSTNode] = []
    cells: list[_Cell] = []
    for statement in module.body:
        cell = _cell(statement, app)
        if cell is None:
            head.append(statement)
        else:
            cells.append(cell)
    return [*head, *(node for cell in _sorted(cells) for node in cell.body)]


def _app(module: cst.Module) -> str | None:
    """The variable that holds `marimo.App(…)`."""
    for line in module.body:
        for item in line.body if isinstance(line, cst.SimpleStatementLine) else ():
            if not isinstance(item, cst.Assign) or not isinstance(item.value, cst.Call):
                continue
            target = item.targets[0].target
            if isinstance(target, cst.Name) and dotted(item.value.func) in ("marimo.App", "mo.App"):
                return target.value
    return None


def _cell(statement: cst.CSTNode, app: str) -> _Cell | None:
    if not isinstance(statement, cst.FunctionDef):
        return None
    decorator = next((item.decorator for item in statement.decorators if _names_cell(item.decorator, app)), None)
    if decorator is None:
        return None
    parameters = statement.params.params
    body = list(statement.body.body)
    given = set(_assigned(body))
    last = body[-1] if body else None
    items = last.body if isinstance(last, cst.SimpleStatementLine) else ()
    if items and isinstance(items[-1], cst.Return):
        given |= _returned(items[-1])
        body.pop()
    needs = frozenset(parameter.name.value for parameter in parameters)
    return _Cell(body, needs, frozenset(given), _is_disabled(decorator))


def _names_cell(decorator: cst.BaseExpression, app: str) -> bool:
    function = decorator.func if isinstance(decorator, cst.Call) else decorator
    return dotted(function) == f"{app}.cell"


def _is_disabled(decorator: cst.BaseExpression) -> bool:
    arguments = decorator.args if isinstance(decorator, cst.Call) else ()
    return any(
        argument.keyword is not None
        and argument.keyword.value == "disabled"
        and isinstance(argument.value, cst.Name)
        and argument.value.value == "True"
        for argument in arguments
    )


def _returned(node: cst.Return) -> set[str]:
    if isinstance(node.value, cst.Tuple):
        return {item.value.value for item in node.value.elements if isinstance(item.value, cst.Name)}
    return {node.value.value} if isinstance(node.value, cst.Name) else set()


def _assigned(body: Sequence[cst.CSTNode]) -> Iterator[str]:
    """Names that a cell gives although an older or hand-written file doesn't return them."""
    for line in body:
        if isinstance(line, cst.FunctionDef | cst.ClassDef):
            yield line.name.value
        for item in line.body if isinstance(line, cst.SimpleStatementLine) else ():
            targets = [target.target for target in item.targets] if isinstance(item, cst.Assign) else []
            targets += [item.target] if isinstance(item, cst.AnnAssign) else []
            yield from (target.value for target in targets if isinstance(target, cst.Name))


def _sorted(cells: list[_Cell]) -> Iterator[_Cell]:
    """Each cell behind those whose names it needs, else as in the file; without disabled cells and what needs them."""
    givers: dict[str, int] = {}
    for number, cell in enumerate(cells):
        for name in cell.gives:
            givers.setdefault(name, number)
    before = [{givers[name] for name in cell.needs if name in givers} - {number} for number, cell in enumerate(cells)]
    after: dict[int, list[int]] = {}
    for number, needed in enumerate(before):
        for other in needed:
            after.setdefault(other, []).append(number)
    waiting = [len(needed) for needed in before]
    ready = [number for number, count in enumerate(waiting) if not count]
    disabled = {number for number, cell in enumerate(cells) if cell.disabled}
    done: set[int] = set()
    while ready:
        number = heapq.heappop(ready)
        done.add(number)
        if number not in disabled:
            yield cells[number]
        for other in after.get(number, ()):
            if number in disabled:
                disabled.add(other)
            waiting[other] -= 1
            if not waiting[other]:
                heapq.heappush(ready, other)
    # cells that need each other are an error that marimo shows; here they are read as they stand
    yield from (cell for number, cell in enumerate(cells) if number not in done | disabled)
