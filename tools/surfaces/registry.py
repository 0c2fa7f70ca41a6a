"""Every framework whose tables are read again, by the name that the command takes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tools.surfaces import axolotl, openrlhf, specforge, torchtitan, torchtune, verl
from tools.surfaces.plain import PLAIN
from tools.surfaces.source import Source

SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        **PLAIN,
        "axolotl": axolotl.SOURCE,
        "openrlhf": openrlhf.SOURCE,
        "specforge": specforge.SOURCE,
        "torchtitan": torchtitan.SOURCE,
        "torchtune": torchtune.SOURCE,
        "verl": verl.SOURCE,
    }
)
"""A framework that needs code of its own is a module here, with a `SOURCE`."""
