"""axolotl: its pydantic models, those of the plugins that it ships among them, on a GPU that runs everything."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any

os.environ.setdefault("AXOLOTL_DO_NOT_TRACK", "1")

import axolotl.integrations
import torch
import yaml
from axolotl.utils.config import validate_config
from axolotl.utils.dict import DictDefault
from axolotl.utils.schemas.config import AxolotlInputConfig
from pydantic import BaseModel

CAPABILITIES = {"bf16": True, "fp8": True, "tf32": True, "n_gpu": 8, "n_node": 1, "compute_capability": "sm_90"}


def _plugin_models() -> Iterator[type[BaseModel]]:
    for module in pkgutil.iter_modules(axolotl.integrations.__path__, "axolotl.integrations."):
        try:
            arguments = importlib.import_module(f"{module.name}.args")
        except ImportError:
            continue
        yield from (item for item in vars(arguments).values() if isinstance(item, type) and issubclass(item, BaseModel))


def _names(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield name
        yield from (alias for alias in (field.alias, field.validation_alias) if isinstance(alias, str))


KNOWN = {name for model in (AxolotlInputConfig, *_plugin_models()) for name in _names(model)}


def arguments(question: Mapping[str, Any], text: str) -> tuple[int, list[str]]:
    """A YAML file, as `axolotl train` validates it; files that it names are not looked for."""
    table = {key: value for key, value in yaml.safe_load(text).items() if key != "deepspeed"}
    plugins = table.pop("plugins", None)
    release = torch.__version__.partition("+")[0]
    validate_config(DictDefault(table), capabilities=dict(CAPABILITIES), env_capabilities={"torch_version": release})
    return len(table), [key for key in table if key not in KNOWN or (plugins is None and key not in _OWN)]


_OWN = set(_names(AxolotlInputConfig))
KINDS = {"arguments": arguments}
