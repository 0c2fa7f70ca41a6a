"""Megatron-Bridge: the sections of its ConfigContainer, classes of its own and of Megatron-LM that they extend."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from tools.surfaces import bridge_recipes
from tools.surfaces.dataclass_keys import default, initialised
from tools.surfaces.imported import Modules
from tools.surfaces.rows import rows_of, text_of
from tools.surfaces.source import Key, Source, table_file
from tools.surfaces.states import States

_CONFIG = "megatron/bridge/training/config.py"
_LONGEST = 60
_ANYTHING = frozenset(
    (
        "dataset",
        "env_vars",
        "mixed_precision",
        "model",
        "optimizer_config_override_provider",
        "peft",
        "tensor_inspect",
    )
)
"""Sections whose class depends on the model or the recipe, or that take any key."""
_BY_RECIPE = frozenset(
    ("checkpoint", "ddp", "dist", "logger", "optimizer", "scheduler", "tokenizer", "train", "validation")
)
"""Sections that every recipe fills: what their classes have by default is not what applies."""
_OPTIONS: Mapping[str, Key] = {"mode": Key("str"), "recipe": Key("str")}
"""Options of scripts/training/run_recipe.py."""


def make(states: States) -> Mapping[str, str]:
    """The table `frameworks/megatron-bridge.tsv`."""
    modules = Modules((states.revision("HEAD"), states.other("megatron").revision("HEAD")))
    heading = (
        "Megatron-Bridge 0.7, NVIDIA-NeMo/Megatron-Bridge@067f987, src/megatron/bridge/training/config.py "
        "(ConfigContainer) with the classes of megatron-core 0.20 that it extends.",
        "key\tsince\tuntil\trenamed_to\ttype\tdefault\tnote",
    )
    keys = dict(_OPTIONS)
    for item in modules.fields(modules.find(_CONFIG, "ConfigContainer")):
        name = ast.unparse(item.target)
        if initialised(item) and not name.startswith("_"):
            keys[name] = Key("section")
            keys |= {f"{name}.*": Key("")} if name in _ANYTHING else dict(_section(modules, name, item))
    return {table_file("megatron-bridge"): text_of(heading, rows_of([("", keys)]))}


def _section(modules: Modules, section: str, item: ast.AnnAssign) -> Iterator[tuple[str, Key]]:
    words = [node.id for node in ast.walk(item.annotation) if isinstance(node, ast.Name)]
    for word in words:
        for field in modules.fields(modules.find(_CONFIG, word)):
            name = ast.unparse(field.target)
            if not name.startswith("_"):  # overrides go to every attribute, arguments or not
                said = "" if section in _BY_RECIPE else default(field.value)
                said = "" if said.startswith("[") else said
                yield f"{section}.{name}", Key(ast.unparse(field.annotation)[:_LONGEST], said)


SOURCE = Source("", ("megatron",), "NVIDIA-NeMo/Megatron-Bridge", make=make, whole=bridge_recipes.whole)
