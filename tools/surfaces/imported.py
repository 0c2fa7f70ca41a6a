"""Classes by the names that a module has for them, followed through its imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from tools.surfaces.trees import Tree


class Found(NamedTuple):
    """A class and the file that defines it."""

    path: str
    node: ast.ClassDef


class Modules:
    """The modules of several projects, of which one imports from the others."""

    def __init__(self, trees: Sequence[Tree]) -> None:
        """`trees`: the first that has a file is taken."""
        self._trees = trees
        self._parsed = cache(self._module)

    def find(self, path: str, name: str) -> Found | None:
        """The class that a file means by a name; None where it is no class of these projects."""
        for node in self._parsed(path).body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return Found(path, node)
        for inner in ast.walk(self._parsed(path)):
            for module, original, own in _imports(path, inner):
                if own == name:
                    files = (f"{module}.py", f"{module}/__init__.py")
                    held = next((file for file in files if self._text(file)), "")
                    return self.find(held, original) if held and held != path else None
        return None

    def fields(self, found: Found | None) -> Iterator[ast.AnnAssign]:
        """The fields of a dataclass, those of its bases first; a field that two have comes twice."""
        if found is None:
            return
        for base in reversed(found.node.bases):
            word = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
            yield from self.fields(self.find(found.path, word))
        for item in found.node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                yield item

    def _text(self, path: str) -> str:
        return next((text for tree in self._trees if (text := tree.text(path))), "")

    def _module(self, path: str) -> ast.Module:
        return ast.parse(self._text(path), path)


def _imports(path: str, node: ast.AST) -> Iterator[tuple[str, str, str]]:
    """Of an import: the module as a path without its ending, the name there and the name here."""
    if not isinstance(node, ast.ImportFrom):
        return
    module = (node.module or "").replace(".", "/")
    if node.level:
        folder = path.split("/")[: -node.level]
        module = "/".join([*folder, *([module] if module else [])])
    for item in node.names:
        yield module, item.name, item.asname or item.name
