"""The checkpoints that Unsloth loads in 4 bits."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from tools.catalog import FORMS, sort_key
from tools.surfaces.rows import lines_of
from tools.surfaces.source import Source
from tools.surfaces.syntax import assigned
from tools.surfaces.trees import Tree

_MAPPER = "unsloth/models/mapper.py"
_LOADER = "unsloth/models/loader_utils.py"
_DYNAMIC = "-unsloth-bnb-4bit"
_EXPLICIT = "-bnb-4bit"
"""Names that are loaded as they are (loader_utils.py, __get_model_name)."""


def whole(tree: Tree) -> Mapping[str, str]:
    """The table `unsloth.tsv` of a release."""
    heading = (
        "Models of which Unsloth loads a checkpoint that keeps some layers in 16 bits for load_in_4bit=True, and that "
        "checkpoint:",
        f"unsloth {_version(tree)} models/mapper.py, without the BAD_MAPPINGS of models/loader_utils.py.",
        "model, checkpoint",
    )
    bad = _replaced(tree)
    rows = [
        (model, checkpoint)
        for model, checkpoint in _mapped(tree).items()
        if checkpoint.endswith(_DYNAMIC) and checkpoint.lower() not in bad and not model.lower().endswith(_EXPLICIT)
    ]
    name = "unsloth.tsv"
    rows.sort(key=lambda row: sort_key("\t".join(row), FORMS[name]))
    return {name: lines_of(heading, map("\t".join, rows))}


def _mapped(tree: Tree) -> dict[str, str]:
    """The 4-bit checkpoint of each model (mapper.py, FLOAT_TO_INT_MAPPER); of two the later."""
    node = assigned(tree.module(_MAPPER), "__INT_TO_FLOAT_MAPPER")
    written: Mapping[str, tuple[str, ...] | Mapping[str, tuple[str | None, ...]]]
    written = ast.literal_eval(node) if node is not None else {}
    return {model: checkpoint for checkpoint, models in written.items() for model in _names(models)}


def _names(models: tuple[str, ...] | Mapping[str, tuple[str | None, ...]]) -> Iterator[str]:
    """The models of a checkpoint: a tuple, or tuples by the bits in which they are stored."""
    groups = (models.get("8", ()), models["16"]) if isinstance(models, Mapping) else (models,)
    yield from (name for group in groups for name in group if name is not None)


def _replaced(tree: Tree) -> frozenset[str]:
    """Checkpoints in lower case that Unsloth replaces by others (loader_utils.py, BAD_MAPPINGS)."""
    node = assigned(tree.module(_LOADER), "BAD_MAPPINGS")
    keys = node.keys if isinstance(node, ast.Dict) else []
    texts = (part.value for key in keys if key is not None for part in ast.walk(key) if isinstance(part, ast.Constant))
    return frozenset(str(text).lower() for text in texts)


def _version(tree: Tree) -> str:
    """It stands in _version.py, in models/_utils.py before 2026.8.19."""
    text = tree.text("unsloth/_version.py") + tree.text("unsloth/models/_utils.py")
    found = re.search(r'(?m)^__version__ = "([^"]+)"', text)
    return found[1] if found is not None else ""


SOURCE = Source("unsloth", ("unsloth",), "unslothai/unsloth", whole=whole)
