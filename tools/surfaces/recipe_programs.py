"""What functions of a framework that make whole configurations give by default, worked out by vramlint's own reader."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from tools.surfaces.trees import Tree
from vramlint.readers.python import read_program
from vramlint.text import Document
from vramlint.values import Call, Items, Name, Scalar, Table, Value

Made = Mapping[str, Value]
"""What each function makes."""


def made(tree: Tree, modules_followed: str, calls: Mapping[str, str]) -> Made:
    """The values of calls, none of which is run.

    Args:
        tree: the framework.
        modules_followed: a pattern of their dotted names; what others define is not looked into.
        calls: `f(a=1)` by a name for its value, where `f` stands in the module in front of it: `package.module:f(a=1)`.
    """
    found: dict[str, Value] = {}
    names = list(calls)
    for start in range(0, len(names), _AT_ONCE):
        found |= _together(tree, modules_followed, {name: calls[name] for name in names[start : start + _AT_ONCE]})
    return found


_AT_ONCE = 8
"""Calls in one program: the reader works on none without end."""


def _together(tree: Tree, modules_followed: str, calls: Mapping[str, str]) -> Made:
    lines = []
    for name, call in calls.items():
        module, _, words = call.partition(":")
        function, parenthesis, arguments = words.partition("(")
        lines += [f"from {module} import {function} as _{name}", f"{name} = _{name}{parenthesis}{arguments}"]

    def modules(name: str) -> Document | None:
        if re.fullmatch(modules_followed, name) is None:
            return None
        path = name.replace(".", "/")
        for file in (f"{path}.py", f"{path}/__init__.py"):
            if text := tree.text(file):
                return Document.of(file, text)
        return None

    program, _ = read_program(Document.of("recipes.py", "\n".join(lines) + "\n"), {}, modules)
    constants = program.constants if program is not None else ()
    return {entry.key: entry.value for entry in constants if entry.key in calls}


def flattened(value: Value, above: str = "") -> Iterator[tuple[str, object]]:
    """The plain values in a configuration by their dotted keys; of an object its class too, as `key.type`."""
    match value:
        case Table():
            for entry in value:
                yield from flattened(entry.value, f"{above}.{entry.key}")
        case Call():
            yield f"{above}.type"[1:], class_of(value)
            for word in (*value.keywords, *value.bindings):
                yield from flattened(word.value, f"{above}.{word.name}")
        case Scalar():
            yield above[1:], value.value
        case Name() if value.qualified.startswith("torch."):
            yield above[1:], value.qualified
        case Items() if all(isinstance(item, Scalar) for item in value.values):
            yield above[1:], [item.value for item in value.values if isinstance(item, Scalar)]


def class_of(call: Call) -> str:
    """The class of an object; of `run.Config(Class, …)`, which describes one, that class."""
    if call.callee in _DESCRIBES and call.args:
        first = call.args[0]
        name = first.qualified if isinstance(first, Name) else first.callee if isinstance(first, Call) else ""
        return name.rpartition(".")[2]
    return call.kind or call.callee.rpartition(".")[2]


_DESCRIBES = ("nemo_run.Config", "nemo_run.Partial")


def recipe_lines(recipes: Mapping[str, Mapping[str, object]]) -> Iterable[str]:
    """The lines of a table of recipes: of those that say the same the first has it, the others name it."""
    first: dict[str, str] = {}
    for name in sorted(recipes):
        body = json.dumps(dict(sorted(recipes[name].items())), separators=(",", ":"))
        held = first.setdefault(body, name)
        yield f"{name}\t{body if held == name else json.dumps({'same': held}, separators=(',', ':'))}"
