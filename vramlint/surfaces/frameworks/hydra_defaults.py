"""The configuration that a project's own copy of a Hydra program starts from (hydra 1.3, main.py).

Most repositories that train with verl hold a fork of it, whose YAML has defaults of its own.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable

from vramlint.patterns import lazy
from vramlint.surfaces.frameworks.interpolation import MISSING
from vramlint.surfaces.launch.framework_programs import PROGRAM
from vramlint.text import Document
from vramlint.values import Entry, Items, Scalar, Table, Value

_DECORATOR = lazy(r"@hydra\.main\(([^()]*)\)")
_ARGUMENT = lazy(r"""\b(config_path|config_name)\s*=\s*["']([^"']+)["']""")
_COMPOSED = "defaults"
"""The list of what Hydra composes, which is no key of the configuration."""


def module_of(table: Table) -> str:
    """The program that a command line starts, as a module; empty for a file by itself."""
    started = table.get(PROGRAM)
    if not (isinstance(started, Scalar) and isinstance(started.value, str)) or " " in started.value:
        return ""
    return started.value.replace("\\", "/").removesuffix(".py").strip("./").replace("/", ".")


def own_configuration(table: Table, find: Callable[[str], Document | None]) -> str:
    """The path of the YAML that the started program reads by its decorator; empty where the project does not have it.

    Args:
        table: the command line.
        find: the file of a module of the project.
    """
    named, module = table.get("config_name"), module_of(table)
    document = find(module) if module else None
    decorator = _DECORATOR.search(document.text) if document is not None else None
    if document is None or decorator is None:
        return ""
    said = {found[1]: found[2] for found in _ARGUMENT.finditer(decorator[1])}
    name = str(named.value) if isinstance(named, Scalar) else said.get("config_name", "")
    if not name or "config_path" not in said:
        return ""
    file = name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
    return posixpath.normpath(posixpath.join(posixpath.dirname(document.path), said["config_path"], file))


def as_defaults(table: Table) -> Table:
    """The values that stand in a configuration as they are, as defaults of the program: without places.

    What refers to others (`${…}`) waits for what the command line says of those, and is left out.
    """
    entries = ((entry.key, _default(entry.value)) for entry in table if entry.key != _COMPOSED)
    return Table(tuple([Entry(key, None, value) for key, value in entries if value is not None]))


def _default(value: Value) -> Value | None:
    match value:
        case Table():
            return as_defaults(value)
        case Items(values=values):
            items = [item for item in map(_default, values) if item is not None]
            return Items(tuple(items)) if len(items) == len(values) else None
        case Scalar(value=str(text)) if "${" in text or text == MISSING:
            return None
        case Scalar(value=plain):
            return Scalar(plain, None, "library")
        case _:
            return None
