"""`exec` of a file of the project, and `globals()`."""

from __future__ import annotations

from vramlint.readers.python.datafiles import find, path_of
from vramlint.readers.python.machine import Machine, Site
from vramlint.readers.python.objects import Mapping, Object, Scope, Slot
from vramlint.readers.python.source import parse
from vramlint.text import Document
from vramlint.values import Scalar

_MOST_NESTED = 4
"""Files executed inside one another."""

_KEY = "executing"


def execute_text(machine: Machine, site: Site) -> Object:
    """`exec(open("configurator.py").read())`: the file's statements run in the names around the call."""
    item = site.first()
    if len(site.arguments.positional) > 1:
        return site.unknown("result of exec()")
    code = item
    path = None if isinstance(code, Scalar) else path_of(code)
    if isinstance(path, Scalar) and isinstance(path.value, str):
        document = find(machine, path.value)
        if document is not None:
            run(machine, document, site.scope)
    return Scalar(None, None, "computed")


def run(machine: Machine, document: Document, scope: Scope) -> bool:
    """Execute a file's statements with the names of `scope`; False where it can't be read."""
    depth = int(machine.process.get(_KEY, 0))
    parsed = f"source {document.path}"
    source = machine.process.get(parsed) or parse(document)[0]
    if depth >= _MOST_NESTED or source is None:
        return False
    if parsed not in machine.process:
        machine.process[parsed] = source
        machine.add_source(source)
    machine.process[_KEY] = depth + 1
    try:
        machine.execute(source.module.body, scope)
    finally:
        machine.process[_KEY] = depth
    return True


def module_scope(machine: Machine, path: str) -> Scope | None:
    """The names of a Python file that is run for its settings."""
    document = find(machine, path)
    if document is None:
        return None
    scope = machine.new_scope(None, "module")
    own = len(machine.functions)
    done = run(machine, document, scope)
    del machine.functions[own:]  # what the script doesn't call is no part of it
    return scope if done else None


def global_names(machine: Machine, site: Site) -> Object:
    """`globals()`: the module's names as a dict that changes them."""
    del machine
    names = site.scope.top()
    state = {name: Slot(None, value) for name, value in names.state.items()}
    return NamesMapping(state, site.place, names=names)


class NamesMapping(Mapping, eq=False, kw_only=True):
    """A dict over the names of a module; writes go to the names themselves."""

    names: Scope


def put_name(machine: Machine, table: Mapping, key: str, value: Object) -> None:
    """Also set the name behind a key of `globals()`."""
    if isinstance(table, NamesMapping):
        machine.journal.put(table.names.state, key, value)
