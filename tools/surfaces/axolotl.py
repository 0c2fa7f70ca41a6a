"""Axolotl: the pydantic models of its YAML, with the models inside them and those of its plugins."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from tools.surfaces.declared import fields_of, literal
from tools.surfaces.source import Key, Keys, Source
from tools.surfaces.trees import Tree

_SCHEMAS = ("axolotl/utils/schemas/**.py", "axolotl/utils/config/models/input/**.py")
"""Where the models are, since 0.8 and before."""
_PLUGINS = ("axolotl/integrations/*/args.py", "axolotl/integrations/*/__init__.py")
_ROOT = "AxolotlInputConfig"
_OPEN = re.compile(r"\bdict\b", re.IGNORECASE)
_LIST = re.compile(r"list[\[(]", re.IGNORECASE)
_PREFIXED = ("fsdp_config", "fsdp_")
"""A table whose keys may have a prefix too (schemas/validation.py, check_fsdp_config_kwargs_prefix), and the prefix."""


def read(tree: Tree) -> Mapping[str, Keys]:
    """The keys at one state."""
    classes = _classes(tree, (*_SCHEMAS, *_PLUGINS))
    found: dict[str, Key] = {}
    for name in (*_plugins(tree), _ROOT):
        found |= dict(_keys(name, classes, ""))
    return {"axolotl": found}


def _classes(tree: Tree, patterns: tuple[str, ...]) -> dict[str, ast.ClassDef]:
    nodes = (node for pattern in patterns for path in tree.paths(pattern) for node in ast.walk(tree.module(path)))
    return {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}


def _plugins(tree: Tree) -> Iterator[str]:
    """The models of plugins, as their `get_input_args` name them: `axolotl.integrations.liger.LigerArgs`."""
    for path in tree.paths("axolotl/integrations/**.py"):
        for node in ast.walk(tree.module(path)):
            if isinstance(node, ast.FunctionDef) and node.name == "get_input_args":
                for item in ast.walk(node):
                    named = literal(item.value) if isinstance(item, ast.Return) else None
                    if isinstance(named, str):
                        yield named.rpartition(".")[2]


def _keys(name: str, classes: Mapping[str, ast.ClassDef], above: str) -> Iterator[tuple[str, Key]]:
    """Keys below a model, by all their names: of a model in it also what stands there, of a dict that anything may."""
    for field, key in fields_of(name, classes, set()):
        names = [field]
        if above == f"{_PREFIXED[0]}." and not field.startswith(_PREFIXED[1]):
            names.append(f"{_PREFIXED[1]}{field}")
        for path in (f"{above}{word}" for word in names):
            yield path, key
            inner = next((word for word in re.findall(r"\w+", key.type) if _is_model(word, classes)), "")
            if _LIST.search(key.type):
                continue
            if inner and inner != name:
                yield from _keys(inner, classes, f"{path}.")
            elif _OPEN.search(key.type):
                yield f"{path}.*", Key("Any")


def _is_model(name: str, classes: Mapping[str, ast.ClassDef]) -> bool:
    node = classes.get(name)
    return node is not None and not any("Enum" in ast.unparse(base) for base in node.bases)


SOURCE = Source(
    "axolotl",
    ("axolotl",),
    "axolotl-ai-cloud/axolotl",
    read,
    elsewhere=("passed on to accelerate", "read by 0.4.0"),
)
