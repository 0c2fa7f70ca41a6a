"""What several readers of syntax trees ask for."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from tools.surfaces.trees import Tree


def classes(tree: Tree, patterns: Iterable[str]) -> dict[str, ast.ClassDef]:
    """The classes of the files that match patterns, by name; of those with one name the last."""
    return {
        node.name: node
        for pattern in patterns
        for path in tree.paths(pattern)
        for node in ast.walk(tree.module(path))
        if isinstance(node, ast.ClassDef)
    }


def assigned(module: ast.Module, name: str) -> ast.expr | None:
    """What a module assigns to a name at its top level; None where it does not."""
    for node in module.body:
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets):
            return node.value
    return None
