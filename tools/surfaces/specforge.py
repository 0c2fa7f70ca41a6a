"""SpecForge: `specforge.tsv`, the schema of `specforge train`, and `specforge-scripts.tsv`, the scripts before it."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping

from tools.surfaces.openrlhf import options
from tools.surfaces.rows import COLUMNS, Row, text_of
from tools.surfaces.source import Key, Keys, Source, table_file
from tools.surfaces.states import States
from tools.surfaces.trees import Tree

_SCHEMA = "specforge/config/schema.py"
_LEGACY = ("deployment_mode", "server_urls", "metadata_db_path")
"""Keys of `training` that are moved when a file is read (schema.py, migrate_legacy_config)."""
_DATES = ("2025-08-15", "2025-11-01", "2026-02-01", "2026-04-01", "2026-07-01")
"""States between which the scripts changed."""
_SCRIPTS = tuple(
    f"scripts/train_{name}.py"
    for name in (
        "eagle3_offline",
        "eagle3_online",
        "eagle3_sgl_online",
        "eagle3",
        "dflash",
        "domino",
        "peagle",
        "eagle3_dataflow",
    )
)


def read(tree: Tree) -> Mapping[str, Keys]:
    """The schema at one state."""
    classes = {node.name: node for node in tree.module(_SCHEMA).body if isinstance(node, ast.ClassDef)}
    if "Config" not in classes:
        return {}
    keys = dict(_fields(classes, "Config", ""))
    return {
        "specforge": keys
        | {f"training.{name}": Key("any", "", "moved into deployment when the file is read") for name in _LEGACY}
    }


def make(states: States) -> Mapping[str, str]:
    """The schema of the newest state, and the options of the scripts before it."""
    schema = (
        "Keys of `specforge train --config` and their defaults, made by tools/surfaces/specforge.py.",
        f"From {_SCHEMA} of github.com/sgl-project/SpecForge, 0.2.0.",
        COLUMNS,
    )
    found: dict[str, Key] = {}
    for date in _DATES:
        tree = states.before(date)
        for path in (*_SCRIPTS, "specforge/args.py"):
            found |= dict(options(tree.module(path), {}))
    scripts = (
        "Options of SpecForge's training scripts and their defaults, made by tools/surfaces/specforge.py; of those "
        "that several have, the newest.",
        f"From scripts/train_*.py of github.com/sgl-project/SpecForge, {_DATES[0]} to {_DATES[-1]}.",
        COLUMNS,
    )
    return {
        table_file("specforge"): text_of(schema, _rows(read(states.revision("HEAD"))["specforge"])),
        table_file("specforge-scripts"): text_of(scripts, _rows(found)),
    }


def _rows(keys: Keys) -> list[Row]:
    return [(name, "", "", "", *key) for name, key in keys.items()]


def _fields(classes: Mapping[str, ast.ClassDef], name: str, above: str) -> Iterator[tuple[str, Key]]:
    """The fields of a model of pydantic, those of models inside it by dotted path."""
    for statement in classes[name].body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        if statement.target.id == "model_config":
            continue
        annotation, path = ast.unparse(statement.annotation), f"{above}{statement.target.id}"
        inner = next((other for other in classes if other in annotation), "") if "List" not in annotation else ""
        if inner:
            yield path, Key("table")
            yield from _fields(classes, inner, f"{path}.")
        else:
            kinds = (word for word in ("List", "bool", "int", "float") if word in annotation)
            default = _default(statement.value)
            yield path, Key({"List": "list"}.get(kind := next(kinds, "str"), kind), default)


def _default(value: ast.expr | None) -> str:
    """As JSON; empty where it is nothing, or no plain value."""
    if isinstance(value, ast.Call):
        value = next((keyword.value for keyword in value.keywords if keyword.arg == "default"), None)
    found = _number(value) if value is not None else None
    return "" if found is None else json.dumps(found)


def _number(node: ast.expr) -> object:
    """A literal; also `256 << 20`."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.LShift):
        left, right = _number(node.left), _number(node.right)
        return left << right if isinstance(left, int) and isinstance(right, int) else None
    try:
        found: object = ast.literal_eval(node)
    except ValueError:
        return None
    return found if not isinstance(found, list | dict) else None


SOURCE = Source("specforge", ("specforge",), "sgl-project/SpecForge", read, make)
