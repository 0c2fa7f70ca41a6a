"""Flavors of torchtitan's models, the sizes behind `[model] name` and `flavor`; and the configurations it ships."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from vramlint.catalog.frameworks import FOLDER
from vramlint.catalog.lines import DATA

Sizes = Mapping[str, str | int | float | bool | Mapping[str, str | int | float | bool]]
"""Arguments of a model (`ModelArgs`), those of its experts as a mapping of their own."""


@cache
def flavors() -> Mapping[tuple[str, str], Sizes]:
    """The sizes of every flavor by the model's name and its own."""
    text = (DATA / FOLDER / "torchtitan_flavors.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
    return MappingProxyType({(model, flavor): json.loads(said) for model, flavor, said in rows})


Said = Mapping[str, str | int | float | bool | tuple[str, ...] | None]
"""What a configuration says, by dotted keys of the TOML files."""


@cache
def registries() -> Mapping[tuple[str, str], Said]:
    """What the functions of torchtitan's own registries say, by the registry's dotted module and the function."""
    text = (DATA / FOLDER / "torchtitan_registries.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
    return MappingProxyType({(module, name): MappingProxyType(_said(json.loads(said))) for module, name, said in rows})


def _said(found: Mapping[str, object]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
