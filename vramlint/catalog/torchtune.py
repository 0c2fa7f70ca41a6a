"""torchtune's builders of models, and what the configurations that it ships say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from msgspec import Struct

from vramlint.catalog.frameworks import FOLDER
from vramlint.catalog.lines import DATA

Argument = str | int | float | bool | None | list[str | int]


class Builder(Struct, frozen=True):
    """One function that makes a model: `torchtune.models.llama3.llama3_8b`."""

    name: str
    """Without `lora_` and `qlora_`, which stand for the same model with adapters."""
    family: str
    """The package below `torchtune.models`."""
    component: str
    """The function with sizes as arguments that it calls."""
    arguments: Mapping[str, Argument]
    """The arguments that it gives; of the language model where there is an encoder too."""


class Packaged(Struct, frozen=True):
    """One configuration that `tune run --config NAME` finds in the package."""

    name: str
    recipes: tuple[str, ...]
    """Recipes that the registry lists it under."""
    said: Mapping[str, Argument]
    """Its keys, dotted, as far as they decide memory."""


def _lines(name: str) -> list[list[str]]:
    text = (DATA / FOLDER / name).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]


@cache
def builders() -> Mapping[str, Builder]:
    """Every builder by its name."""
    rows = (
        Builder(name, family, made, json.loads(said)) for name, family, made, said in _lines("torchtune_builders.tsv")
    )
    return MappingProxyType({row.name: row for row in rows})


@cache
def packaged() -> Mapping[str, Packaged]:
    """Every packaged configuration by its name: `llama3/8B_lora`."""
    rows = (
        Packaged(name, tuple(recipes.split(",")), json.loads(said))
        for name, recipes, said in _lines("torchtune_configs.tsv")
    )
    return MappingProxyType({row.name: row for row in rows})
