"""Frameworks with a configuration of their own: one module each, by the name in `catalog/frameworks.py`."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from vramlint.catalog.frameworks import FRAMEWORKS

if TYPE_CHECKING:
    from vramlint.surfaces.frameworks.framework import Framework

__all__ = ["FRAMEWORKS", "framework_of"]


@cache
def framework_of(name: str) -> Framework:
    """The framework of that name; its module is loaded when a file needs it.

    Raises:
        ModuleNotFoundError: there is none.
    """
    module = import_module(f"vramlint.surfaces.frameworks.{name.replace('-', '_')}")
    found: Framework = module.FRAMEWORK
    return found
