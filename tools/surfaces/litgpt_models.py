"""litgpt's own models. Its config.py builds the list in loops; vramlint's reader of Python works it out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from tools.catalog import FORMS, sort_key
from tools.surfaces.rows import lines_of
from tools.surfaces.trees import Tree
from vramlint.readers.python import read_program
from vramlint.text import Document
from vramlint.values import plain

_CONFIG = "litgpt/config.py"
_NO_MEMORY = frozenset(
    (
        "name",
        "hf_config",
        "norm_eps",
        "attention_scores_scalar",
        "rope_base",
        "rope_adjustments",
        "rope_indices",
        "rope_condense_ratio",
        "rope_interleave",
    )
)
"""Arguments of Config that decide no memory, or have columns of their own."""


def whole(tree: Tree) -> Mapping[str, str]:
    """The table `litgpt_models.tsv` of a release."""
    heading = (
        f"Models of litgpt {_version(tree)} (litgpt/config.py, `configs`): name, owner and name on the hub, arguments "
        "of its Config as JSON.",
        "Arguments that decide no memory (rope's base and scaling, epsilons) are left out; `elementwise_affine` is "
        "what its norm_class makes of OLMo.",
    )
    name = "litgpt_models.tsv"
    rows = sorted(map(_row, _configs(tree.text(_CONFIG))), key=lambda row: sort_key("\t".join(row), FORMS[name]))
    return {name: lines_of(heading, map("\t".join, rows))}


def _configs(text: str) -> Iterator[Mapping[str, object]]:
    program, _ = read_program(Document.of(_CONFIG, text), {})
    made = next((entry.value for entry in program.constants if entry.key == "configs"), None) if program else None
    found = plain(made) if made is not None else None
    yield from (item for item in (found if isinstance(found, list) else ()) if isinstance(item, Mapping))


def _row(config: Mapping[str, object]) -> tuple[str, ...]:
    hub = config["hf_config"]
    name = str(config["name"])
    kept = {key: value for key, value in config.items() if key not in _NO_MEMORY}
    if config.get("norm_class_name", "LayerNorm") == "LayerNorm" and "OLMo" in name:
        kept["elementwise_affine"] = False
    owner, last = (str(hub["org"]), str(hub["name"])) if isinstance(hub, Mapping) else ("", "")
    return name, owner, last, json.dumps(dict(sorted(kept.items())), separators=(",", ":"))


def _version(tree: Tree) -> str:
    """Of a clone its pyproject.toml says it, of an installed package its folder of metadata."""
    found = re.search(r'(?m)^version *= *"([^"]+)"', tree.text("pyproject.toml"))
    folders = (
        re.match(r"litgpt-(.+)\.dist-info/", path) for path in ([] if found else tree.paths("litgpt-*/METADATA"))
    )
    found = found or next((match for match in folders if match is not None), None)
    return found[1] if found is not None else ""
