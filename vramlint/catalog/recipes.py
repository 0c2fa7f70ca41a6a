"""Recipes that come with a framework: what its functions of that name give by default."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from vramlint.catalog.frameworks import FOLDER
from vramlint.catalog.lines import DATA


@cache
def recipes(framework: str) -> Mapping[str, str]:
    """The JSON of every recipe by its name; empty for a framework without a table of them."""
    path = DATA / FOLDER / f"{framework}_recipes.tsv"
    rows = (line.partition("\t") for line in path.read_text(encoding="utf-8").splitlines() if line[:1] not in ("", "#"))
    return MappingProxyType({name: body for name, _, body in rows})


def recipe(framework: str, name: str) -> Mapping[str, object]:
    """The dotted keys of a recipe that decide memory and their values; empty for an unknown one."""
    body = json.loads(recipes(framework).get(name, "{}"))
    if "same" in body:
        return recipe(framework, str(body["same"]))
    found: Mapping[str, object] = body
    return found
