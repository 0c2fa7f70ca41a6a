"""torchtune: what `tune validate` checks, and the keys that its recipes read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torchtune
from omegaconf import DictConfig, OmegaConf
from torchtune import config
from torchtune.config._errors import InstantiationError
from torchtune.config._utils import _get_component_from_path

_READ = re.compile(r"""cfg\.(?:get\(\s*["'])?(\w+)""")
KNOWN = {
    name
    for file in Path(torchtune.__file__).parents[1].joinpath("recipes").rglob("*.py")
    for name in _READ.findall(file.read_text(encoding="utf-8"))
}


def arguments(question: Mapping[str, Any], text: str) -> tuple[int, list[str]]:
    """A YAML file: every component takes its arguments, and some recipe reads each key of the root.

    Components that this release lacks are not asked about: the last one on PyPI is older than the repository.
    """
    table = OmegaConf.create(text)
    components = [key for key, node in table.items() if isinstance(node, DictConfig) and "_component_" in node]
    there = [key for key in components if _is_there(table[key]["_component_"])]
    config.validate(OmegaConf.masked_copy(table, [key for key in table if key not in components or key in there]))
    return len(there), [str(key) for key in table if key not in KNOWN and f"${{{key}}}" not in text]


def _is_there(component: str) -> bool:
    try:
        _get_component_from_path(component)
    except InstantiationError:
        return False
    return True


KINDS = {"arguments": arguments}
